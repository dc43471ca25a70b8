"""The scorecard says which published numbers a study reaches, by the rule in its caption, and why it cannot tell."""

import contextlib
import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import sklearn.metrics as oracle

from pipeline.params.read import load_params
from pipeline.params.settings import Published
from pipeline.report import drawing
from pipeline.report.sections import scorecard
from pipeline.scoring import metrics
from pipeline.scoring.intervals import Scored, intervals, scored
from pipeline.scoring.published import (
    Images,
    Line,
    Number,
    as_printed,
    cost_verdict,
    difference_ends,
    numbers,
    result,
    verdict,
)
from pipeline.scoring.published import compare as published_compare
from pipeline.stages import report
from pipeline.tracking import runs
from tests import fake_study
from tests.stages.test_report import Page, edit

LOGGED: dict[str, float] = {}
CLASSES = ("Surprise", "Fear")
CONFUSIONS = np.array([[[90, 10], [20, 80]], [[92, 8], [22, 78]], [[91, 9], [18, 82]]])
COSTS = [
    {"parameters": 25_037, "flops": 4.1e6, "weight_bytes": 106_812, "train_seconds": seconds}
    for seconds in (30.0, 31.0, 32.0)
]
CPU_SECONDS = [3.2, 3.4, 3.6]


@pytest.fixture(autouse=True)
def _tracks_into_a_list_and_draws_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    LOGGED.clear()

    @contextlib.contextmanager
    def report_run() -> Iterator[SimpleNamespace]:
        ignored = dict.fromkeys(("artifact", "summarise", "champion"), lambda *_: None)
        yield SimpleNamespace(metrics=LOGGED.update, **ignored)

    monkeypatch.setattr(runs, "report_run", report_run)
    monkeypatch.setattr(drawing, "save", fake_study.leave_blank)


def table(rows: dict[str, Any], **keys: Any) -> dict[str, Any]:
    return {"table": "Table 4", "dataset": "digits", **keys, "rows": rows}


def compare(rows: dict[str, Any], confusions: np.ndarray = CONFUSIONS, **keys: Any) -> list[Line]:
    """Lines of one table against a study of one model, cnn, on Surprise and Fear."""
    results = {"cnn": result(scored(confusions), COSTS[: len(confusions)], CPU_SECONDS[: len(confusions)])}
    published = Published.model_validate(table(rows, **{"model": "cnn", **keys}))
    return published_compare([published], "digits", results, CLASSES)


def only(**numbers: float) -> Line:
    (line,) = compare({"A row": numbers})
    return line


def study(folder: Path, *published: dict[str, Any], **options: Any) -> Path:
    defaults = {"models": ("cnn", "vit"), "replicates": (0, 1), "epochs": 3}
    return fake_study.write(folder, **{**defaults, "published": published, **options})


# the rule


@pytest.mark.parametrize(
    ("published", "low", "high", "word"),
    [
        (0.9, 0.001, 0.05, "exceeded"),
        (0.9, -0.05, -0.001, "below"),
        (0.9, -0.009, 0.05, "reached"),
        (0.9, -0.011, 0.05, "too uncertain"),  # it may be worse by more than a point
        (0.99, -0.006, 0.01, "too uncertain"),  # by more than half the published error
        (0.9, np.nan, np.nan, "too uncertain"),
    ],
)
def test_the_verdict_on_a_score_is_where_the_interval_of_the_difference_lies(
    published: float, low: float, high: float, word: str
) -> None:
    assert verdict(published, low, high) == word


@pytest.mark.parametrize(
    ("published", "low", "high", "word"),
    [
        (0.90, 0.91, 0.93, "below"),
        (0.95, 0.91, 0.93, "exceeded"),
        (0.92, 0.91, 0.93, "reached"),
        (0.91, 0.91, 0.93, "reached"),  # an end is part of the interval
        (0.93, 0.91, 0.93, "reached"),
        (0.92, 0.92, 0.92, "reached"),
    ],
)
def test_the_verdict_on_a_cost_is_where_the_interval_of_ours_lies(
    published: float, low: float, high: float, word: str
) -> None:
    assert cost_verdict(published, low, high) == word


def number(value: float, trainings: int = 1, places: int = 4) -> Number:
    return Number("Table 4", "A row", "cnn", "accuracy", value, trainings, places)


def test_the_difference_has_the_prediction_interval_of_one_more_training() -> None:
    values = np.array([0.85, 0.86, 0.88])
    ours = Scored(values, 10_000)
    for trainings in (1, 5):
        half = scipy.stats.t.ppf(0.98, 2) * values.std(ddof=1) * np.sqrt(1 / 3 + 1 / trainings) + 0.00005
        found = difference_ends(ours, number(0.87, trainings))
        assert found == pytest.approx((values.mean() - 0.87 - half, values.mean() - 0.87 + half))
    coarse, fine = (difference_ends(ours, number(0.87, places=places)) for places in (2, 4))
    assert fine[0] - coarse[0] == pytest.approx(0.005 - 0.00005)
    folds = difference_ends(Scored(values, 10_000, redrawn=0.5), number(0.87))
    assert np.ptp(folds) > np.ptp(difference_ends(ours, number(0.87)))
    assert np.ptp(difference_ends(ours, number(0.87), same=False)) > np.ptp(difference_ends(ours, number(0.87)))


def test_replicates_that_agree_refute_nobody_by_an_image() -> None:
    for replicates in (2, 3, 10, 50):
        low, high = difference_ends(Scored(np.full(replicates, 0.9), 100), number(0.91))
        assert low < 0 < high


def test_one_replicate_says_nothing_of_other_seeds() -> None:
    (line,) = compare({"A row": {"accuracy": 0.5}}, CONFUSIONS[:1])
    assert (line.verdict, line.reason) == ("too uncertain", "one training: other seeds are unknown")
    assert line.ours == intervals(CONFUSIONS[:1])["accuracy"]
    (cells,) = scorecard.scorecard_table([line], "").cells
    assert cells[-1] == "too uncertain: one training: other seeds are unknown"


def test_a_published_score_is_of_one_training_unless_its_table_or_row_says_more() -> None:
    rows = {"a": {"accuracy": 0.74, "parameters": 1e6}, "b": {"accuracy": 0.7386, "n": 3}}
    found = numbers(Published.model_validate(table(rows, model="cnn", n=5)))
    assert [(each.trainings, each.places) for each in found] == [(5, 4), (5, 4), (3, 4)]  # as printed: 0.7400
    assert [each.trainings for each in numbers(Published.model_validate(table(rows, model="cnn")))] == [1, 1, 3]


@pytest.mark.parametrize("replicates", [1, 2, 3, 5, 10])
def test_an_exact_reproduction_is_refuted_in_at_most_5_of_100_studies_and_a_worse_one_is_never_reached(
    replicates: int,
) -> None:
    """Seeds vary probits by 0.05, images are the same for all: 1,000 studies of each accuracy and number of images."""
    rng = np.random.default_rng(replicates)
    studies, refuted, reached = 1000, [], []
    for accuracy, images in ((0.7, 360), (0.97, 360), (0.97, 5000), (0.99, 5000)):
        skill = scipy.stats.norm.ppf(accuracy) + 0.05 * rng.normal(size=(studies, replicates + 1))
        scores = rng.binomial(images, scipy.stats.norm.cdf(skill)) / images
        for gap, share, word in ((0.0, refuted, {"exceeded", "below"}), (0.02, reached, {"reached", "exceeded"})):
            theirs = np.minimum(scores[:, -1] + gap, 1).round(4)
            found = [
                verdict(value, *difference_ends(Scored(ours, images), number(value)))
                for ours, value in zip(scores[:, :-1], theirs, strict=True)
            ]
            share.append(np.mean([each in word for each in found]))
    limit = scipy.stats.binom.ppf(0.999, studies, 0.05) / studies
    assert max(refuted) <= limit, refuted
    assert max(reached) <= limit, reached


def test_where_test_images_are_others_their_luck_is_allowed_for() -> None:
    """Two replicates each of images that are too hard for both or none: all luck is shared."""
    rng = np.random.default_rng(9)
    ours, theirs = rng.binomial(360, 0.9, (2, 1000)) / 360
    refuted = {
        same: np.mean(
            [
                verdict(y, *difference_ends(Scored(np.full(5, x), 360), number(y), same)) in ("exceeded", "below")
                for x, y in zip(ours, theirs.round(4), strict=True)
            ]
        )
        for same in (True, False)
    }
    assert refuted[False] <= 0.05
    assert refuted[True] > 0.5


@pytest.mark.parametrize(
    ("published", "variant", "same"),
    [({"test": 4}, "", True), ({"test": 4}, "JPEG copy", False), ({"test": 9}, "", False), ({}, "", False)],
)
def test_test_images_that_were_drawn_are_not_those_of_the_paper(
    published: dict[str, int], variant: str, same: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A data set without official test images has none that ours could be."""
    given: list[Images] = []
    monkeypatch.setattr(scorecard.published, "compare", lambda *all: given.append(all[-1]))
    data = SimpleNamespace(published=published, variant=variant, dataset="digits", names=CLASSES)
    settings = SimpleNamespace(published=())
    scorecard.compared(SimpleNamespace(data=data, settings=settings, images=4, models=()))  # type: ignore[arg-type]
    assert [images.same for images in given] == [same]


def test_costs_are_compared_as_they_are_printed() -> None:
    assert as_printed(25_437, 25_000) == 25_000
    assert as_printed(25_437, 25_400) == 25_400
    assert as_printed(1_049_000, 1_000_000) == 1_000_000  # two figures, however round
    assert as_printed(1_051_000, 1_000_000) == 1_100_000


@pytest.mark.parametrize(
    ("numbers", "verdict"),
    [
        ({"parameters": 25_037}, "reached"),
        ({"parameters": 25_000}, "reached"),
        ({"parameters": 25_036}, "below"),
        ({"parameters": 26_000}, "exceeded"),
        ({"weight_bytes": 107_000}, "reached"),
        ({"weight_bytes": 106_000}, "below"),
        ({"flops": 4_100_000}, "reached"),
        ({"cpu_seconds": 3.36}, "reached"),  # 3.4, give or take
        ({"cpu_seconds": 2.1}, "below"),
        ({"cpu_seconds": 41.0}, "exceeded"),
        ({"train_seconds": 31}, "reached"),
        ({"train_seconds": 20}, "below"),
    ],
)
def test_of_costs_less_is_better(numbers: dict[str, float], verdict: str) -> None:
    assert only(**numbers).verdict == verdict


def test_a_cost_has_an_interval_only_where_replicates_differ() -> None:
    seconds, parameters = only(cpu_seconds=3.36).ours, only(parameters=1e6).ours
    assert seconds
    assert parameters
    assert seconds.mean == pytest.approx(3.4)
    assert seconds.high - seconds.mean == pytest.approx(
        4.302653 * 0.2 / np.sqrt(3), abs=1e-5
    )  # t, 2 degrees of freedom
    assert (parameters.mean, parameters.n) == (25_037, 3)
    assert np.isnan([parameters.low, parameters.high]).all()
    (once,) = compare({"A row": {"cpu_seconds": 3.2}}, CONFUSIONS[:1])
    assert once.ours
    assert np.isnan(once.ours.low)
    assert once.verdict == "reached"


# rows of classes and averages


@pytest.mark.parametrize("replicates", [1, 3])
def test_rows_of_classes_and_averages_are_scikit_learns(replicates: int) -> None:
    numbers = {"precision": 0.9, "recall": 0.9, "f1": 0.9}
    rows = dict.fromkeys(("surprise", "Fear", "Macro Avg", "weighted average"), numbers)
    lines = compare(rows, CONFUSIONS[:replicates])
    wanted = []
    for counts in CONFUSIONS[:replicates]:
        actual, predicted = (np.repeat(index.ravel(), counts.ravel()) for index in np.indices(counts.shape))
        found = oracle.classification_report(actual, predicted, target_names=CLASSES, output_dict=True)
        wanted.append(
            [
                found[row][key]
                for row in (*CLASSES, "macro avg", "weighted avg")
                for key in ("precision", "recall", "f1-score")
            ]
        )
    assert [line.ours.mean for line in lines if line.ours] == pytest.approx(np.mean(wanted, axis=0))
    basis = "replicates and test images" if replicates > 1 else "test images"
    assert {(line.ours.n, line.ours.basis) for line in lines if line.ours} == {(replicates, basis)}
    assert all(line.ours.low < line.ours.mean < line.ours.high for line in lines if line.ours)


def test_what_cannot_be_compared_says_why() -> None:
    never = np.array([[[9, 0], [4, 0]]] * 3)
    reasons = [
        line.reason
        for line in (
            *compare({"Gone": {"model": "cbam", "accuracy": 0.9}}),
            *compare({"Disgust": {"f1": 0.4}}),
            *compare({"Fear": {"accuracy": 0.4}}),
            *compare({"Fear": {"precision": 0.4}}, never),
            *compare({"Fear": {"recall": 0.4}}, np.array([[[9, 1], [0, 0]]])),
        )
    ]
    assert reasons == [
        "no model 'cbam' in params.yaml",
        "no class 'Disgust' in this data set",
        "accuracy is not of one class: give precision, recall or F1",
        "undefined, the class was not predicted in every replicate",
        "undefined, no test image is of the class",
    ]
    results = {"cnn": result(scored(CONFUSIONS), COSTS)}
    published = [Published.model_validate(table({"25K": {"model": "cnn", "cpu_seconds": 3.36}}))]
    (line,) = published_compare(published, "digits", results, CLASSES)
    assert (line.verdict, line.reason, line.ours) == ("not run", "latency was not measured", None)


def test_seconds_have_three_figures_and_published_ones_those_that_they_were_printed_with() -> None:
    (cells,) = scorecard.scorecard_table(compare({"A": {"cpu_seconds": 41.0}}), "").cells
    assert (cells[4], cells[5], cells[8]) == ("41 s", "3.40 s", "−37.6 s")


def test_the_sentence_counts_every_number_once() -> None:
    lines = compare({"a": {"accuracy": 0.1, "f1": 0.1}, "b": {"accuracy": 0.99, "parameters": 25_037}})
    assert scorecard.sentence(lines) == (
        "Of 3 published scores, 1 is exceeded, 1 not reached, 1 not run. The one published cost is reached."
    )
    assert scorecard.sentence(compare({"a": {"accuracy": 0.1, "macro_f1": 0.1}})) == (
        "Of 2 published numbers, 2 are exceeded."
    )
    assert scorecard.sentence(compare({"a": {"accuracy": 0.99}})) == "The one published number is not reached."


# in the report


def test_the_tables_hold_the_published_numbers_beside_those_of_metrics_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = {
        "ResNet_18": {"model": "cnn", "accuracy": 0.5, "parameters": 11_181_642},
        "ViT": {"model": "vit", "macro_f1": 0.99},
    }
    monkeypatch.chdir(
        study(
            tmp_path, table(rows), table({"3": {"f1": 1.0}, "x": {"f1": 0.5}}, model="vit", n=4), replicates=(0, 1, 2)
        )
    )
    edit(Path("reports/data.json"), variant="JPEG copy")
    report.main()
    ours = json.loads(Path("reports/metrics.json").read_text())["models"]
    frame = pd.read_csv("reports/tables/scorecard.csv")
    assert list(frame.verdict) == ["exceeded", "reached", "below", "too uncertain", "not run"]
    first = frame.iloc[0]
    assert [first[key] for key in ("ours", "low", "high", "n")] == [
        ours["cnn"]["accuracy"][key] for key in ("mean", "low", "high", "n")
    ]
    assert first.difference == pytest.approx(100 * (first.ours - 0.5))
    assert first.difference_low < first.difference < first.difference_high
    assert list(frame.published_n.dropna()) == [1, 1, 4, 4]
    assert (first.unit, first.interval_over) == ("percentage points", "replicates and test images")
    classes = pd.read_csv("reports/tables/classification_vit.csv").set_index("class")
    assert frame.ours[3] == pytest.approx(classes.f1["3"])
    with Path("reports/tables/scorecard.csv").open(newline="") as file:
        assert [row["ours"] for row in csv.DictReader(file)][-1] == ""
    text = Path("reports/tables/scorecard.md").read_text(encoding="utf-8")
    for phrase in (
        "(JPEG copy), 360 test images: published values are as printed",
        "of the original data set, ours of a variant of it (JPEG copy)",
        "n = 3 replicates",
        "the published one is taken as the mean of 1 and 4 trainings, rounded as printed",
        "Trained on cpu in fp32",
        "the 96% interval that an exact reproduction would have",
        "too uncertain: neither",
        "not run: no class 'x' in this data set",
        "11,181,642",
    ):
        assert phrase in text
    assert r"ResNet\_18 & cnn & accuracy & 0.5000" in Path("reports/tables/scorecard.tex").read_text()
    assert LOGGED["scorecard/below"] == LOGGED["scorecard/too uncertain"] == 1
    assert (
        "Of 4 published scores, 1 is exceeded, 1 not reached, 1 too uncertain to say, 1 not run. The one published cost"
        " is reached. The published numbers are of the original data set, ours of a variant of it (JPEG copy)"
        in " ".join(capsys.readouterr().out.split())  # it is folded
    )
    assert (
        "ours of a variant of it (JPEG copy)" in Path("reports/report.html").read_text().split("<h2>Scorecard</h2>")[1]
    )


def test_the_page_gives_each_number_its_verdict_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {"<b>ResNet": {"model": "cnn", "accuracy": 0.5}, "CBAM": {"model": "cbam", "accuracy": 0.9}}
    monkeypatch.chdir(study(tmp_path, table(rows), replicates=(0,)))
    report.main()
    html = Path("reports/report.html").read_text()
    page = Page(html)
    assert not page.open
    assert 'href="#scorecard"' in html
    assert html.index('id="comparison"') < html.index('id="scorecard"') < html.index('id="data"')
    assert "Of 2 published numbers, 1 is too uncertain to say, 1 not run." in page.text
    accuracy = json.loads(Path("reports/metrics.json").read_text())["models"]["cnn"]["accuracy"]
    interval = f"{accuracy['mean']:.4f} {accuracy['low']:.4f} to {accuracy['high']:.4f}"
    assert re.search(
        r"<b>ResNet, accuracy Table 4, cnn too uncertain one training: other seeds are unknown"
        rf" 0\.5000 {interval} \+\d+\.\d\d pp",
        page.text,
    )
    assert "CBAM, accuracy Table 4, cbam not run no model 'cbam' in params.yaml 0.9000 – –" in page.text
    assert "over test images (Clopper-Pearson; n = 1 replicate)" in page.text


def test_a_copied_study_with_another_data_set_shows_no_foreign_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign = table({"Foreign": {"model": "cnn", "accuracy": 0.9}}, dataset="rafdb")
    own = table({"Own": {"model": "cnn", "accuracy": 0.9}})
    monkeypatch.chdir(study(tmp_path, foreign, own))
    report.main()
    assert list(pd.read_csv("reports/tables/scorecard.csv").row) == ["Own"]
    assert "Foreign" not in Path("reports/report.html").read_text()
    study(tmp_path, foreign)
    report.main()
    assert not list(Path("reports/tables").glob("scorecard.*"))
    assert "corecard" not in Path("reports/report.html").read_text()


def test_every_number_that_rafdb_publishes_finds_one_of_ours() -> None:
    faces = fake_study.FACES
    settings = load_params(fake_study.ROOT / "studies/rafdb/params.yaml")
    rng = np.random.default_rng(0)
    confusions = rng.integers(1, 50, (3, len(faces), len(faces)))
    results = {name: result(scored(confusions), COSTS) for name in settings.models}
    lines = published_compare(settings.published, "rafdb", results, faces)
    assert len(lines) == 3 * 3 + 3 * (9 * 3 + 1)
    assert not [line for line in lines if line.verdict == "not run"]
    assert set(metrics.SCORES) - {"balanced_accuracy"} <= {line.metric for line in lines}


def test_an_accuracy_shows_what_missing_test_images_could_change() -> None:
    """As if all of them had been wrong, or right: 171.0 of 200 right in the mean, and 50 that are not here."""
    published = Published.model_validate(table({"A": {"accuracy": 0.86, "macro_f1": 0.86}}, model="cnn"))
    results = {"cnn": result(scored(CONFUSIONS), COSTS, CPU_SECONDS)}
    lines = published_compare([published], "digits", results, CLASSES, Images(200, missing=50))
    right = np.trace(CONFUSIONS, axis1=1, axis2=2).mean()
    assert lines[0].bounds == pytest.approx((right / 250, (right + 50) / 250))
    assert lines[1].bounds is None
    assert f"({right / 250:.4f} to {(right + 50) / 250:.4f})" in scorecard.scorecard_table(lines, "").cells[0][5]
    assert compare({"A": {"accuracy": 0.86}})[0].bounds is None


def test_a_copy_that_lacks_test_images_says_so_on_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study(tmp_path, table({"A": {"model": "cnn", "accuracy": 0.9}}), images=90)
    edit(tmp_path / "reports/data.json", published={"test": 100})
    monkeypatch.chdir(tmp_path)
    report.main()
    page = (tmp_path / "reports/report.html").read_text()
    assert "In brackets: the accuracy had all 10 test images that this copy lacks been wrong, or all right." in page
    accuracy = json.loads((tmp_path / "reports/metrics.json").read_text())["models"]["cnn"]["accuracy"]["mean"]
    assert f"({accuracy * 0.9:.4f} to {accuracy * 0.9 + 0.1:.4f})" in page
    assert "Classes taken for each other most" in page
