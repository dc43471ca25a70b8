"""The report says what the evaluations say, in files that a reader can use, or names the stage to run."""

import contextlib
import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics as oracle
from matplotlib import pyplot
from ruamel.yaml import YAML

from pipeline.base.errors import StageError
from pipeline.base.quantities import duration, enumerated, quantity, short, size
from pipeline.records.predictions import Predictions, predictions_path
from pipeline.report import drawing
from pipeline.report.sections import classes, confusion, training
from pipeline.report.sections.cost import latency_figure
from pipeline.report.sections.data import class_distribution_figure
from pipeline.report.sections.metrics import metric_chart_figure
from pipeline.report.table import Table, write
from pipeline.report.table import text as table_text
from pipeline.report.words import score, score_interval
from pipeline.scoring.intervals import Interval
from pipeline.stages import report
from pipeline.tracking import runs as tracking_runs
from tests import fake_study, trees

LOGGED: list[tuple] = []


@pytest.fixture(autouse=True)
def _tracks_into_a_list_and_draws_where_it_is_looked_at(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    LOGGED.clear()
    names = ("params", "metrics", "artifact", "dataset", "summarise", "champion")
    run = SimpleNamespace(**{name: lambda *values, name=name: LOGGED.append((name, *values)) for name in names})

    @contextlib.contextmanager
    def report_run() -> Iterator[SimpleNamespace]:
        yield run

    monkeypatch.setattr(tracking_runs, "report_run", report_run)
    if "drawn" not in request.fixturenames:
        monkeypatch.setattr(drawing, "save", fake_study.leave_blank)


@pytest.fixture
def drawn() -> None:
    """Of a test that looks at a report's figures."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fake_study.write(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def reported(made: Path) -> Path:
    """The made-up study with its report, in a process of its own: what it imports is looked at in a test."""
    code = (
        "import contextlib, sys, pipeline.tracking.runs as tracking\n"
        "class Run:\n"
        "    def metrics(self, *_): pass\n"
        "    def artifact(self, *_): pass\n"
        "    def summarise(self, *_): pass\n"
        "    def champion(self, *_): pass\n"
        "tracking.report_run = lambda: contextlib.nullcontext(Run())\n"
        "from pipeline.stages import report\n"
        "report.main()\n"
        "print('imported:', *sys.modules)\n"
    )
    environment = {"PYTHONPATH": str(fake_study.ROOT), "PATH": "", "HOME": str(made)}
    done = subprocess.run([sys.executable, "-c", code], cwd=made, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (made / "stdout").write_text(done.stdout, encoding="utf-8")
    return made


def test_the_first_line_of_a_study_in_mlflow_has_the_scores_of_those_that_validation_finds_best() -> None:
    models = {f"m_{n}": {"macro_f1": {"mean": n / 10}, "val_macro_f1": {"mean": (n + 1) / 10}} for n in range(8)}
    first = report.in_a_line(models)
    assert first.startswith(r"Test macro-F1 (validation): m\_7 0.7000 (0.8000), m\_6 0.6000 (0.7000), ")
    assert first.endswith(r"m\_2 0.2000 (0.3000) and 2 more.")
    assert report.in_a_line({"cnn": {"macro_f1": {"mean": 0.5}}}) == "Test macro-F1: cnn 0.5000."


def small(folder: Path, **options: object) -> Path:
    """A study that is reported in a second or so."""
    return fake_study.write(folder, **{"models": ("cnn", "vit"), "replicates": (0, 1), "epochs": 3, **options})  # type: ignore[arg-type]


def settings(changes: dict[str, object]) -> None:
    """Set dotted keys of the params.yaml in the current folder."""
    content = YAML(typ="safe").load(Path("params.yaml").read_text())
    trees.put_settings(content, changes)
    with Path("params.yaml").open("w") as file:
        YAML().dump(content, file)


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


class Page(HTMLParser):
    """What a browser would fetch, the text that it would show, and which elements were left open."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.ids: list[str] = []
        self.unnamed: list[str] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        if tag not in ("meta", "link", "img", "wbr"):
            self.open.append(tag)
        self.addresses += [values[key] or "" for key in ("src", "href", "xlink:href") if key in values and tag != "a"]
        self.ids += [values["id"] or ""] if "id" in values else []
        self.unnamed += [tag] if tag == "img" and not values.get("alt") else []
        self.unnamed += [tag] if values.get("role") == "img" and not values.get("aria-label") else []

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        if tag not in ("meta", "link", "img", "wbr"):
            self.open.pop()

    def handle_data(self, data: str) -> None:
        if not {"style", "svg", "script"} & set(self.open):
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


# numbers


def test_metrics_json_has_scikit_learns_scores_over_the_predictions(reported: Path) -> None:
    found = json.loads((reported / "reports" / "metrics.json").read_text())
    assert found["study"] == "digits"
    assert list(found["models"]) == ["cnn", "vit", "hybrid"]
    for model, values in found["models"].items():
        scores = []
        for replicate in range(3):
            each = Predictions.read(predictions_path(f"{model}-{replicate}", reported))
            scores.append(oracle.f1_score(each.actual, each.predicted, average="macro"))
        assert values["macro_f1"]["mean"] == pytest.approx(np.mean(scores))
        seeds = 4.848732 * np.std(scores, ddof=1) / np.sqrt(3)  # t(0.98) with 2 degrees of freedom
        images = 2.2 * np.sqrt(np.mean(scores) * (1 - np.mean(scores)) / 360)
        half = values["macro_f1"]["high"] - values["macro_f1"]["mean"]
        assert seeds < half < np.hypot(seeds, images)
        assert values["macro_f1"]["n"] == 3
        assert values["images"] == 360
        seconds = [
            json.loads((reported / f"reports/evaluations/{model}-{replicate}.json").read_text())["cost"][
                "train_seconds"
            ]
            for replicate in range(3)
        ]
        assert values["train_seconds"] == pytest.approx(np.mean(seconds))
        assert set(values) == {
            *("accuracy", "macro_f1", "weighted_f1", "balanced_accuracy", "macro_precision", "macro_recall"),
            *("val_macro_f1", "parameters", "flops", "weight_bytes", "train_seconds", "images"),
        }


def test_one_replicate_reports_intervals_over_test_images_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(small(tmp_path, replicates=(7,)))
    report.main()
    accuracy = json.loads(Path("reports/metrics.json").read_text())["models"]["cnn"]["accuracy"]
    assert accuracy["n"] == 1
    spread = np.sqrt(accuracy["mean"] * (1 - accuracy["mean"]) / 360)
    assert (accuracy["high"] - accuracy["low"]) / 2 == pytest.approx(1.96 * spread, rel=0.15)
    assert "95% interval over test images" in capsys.readouterr().out
    page = Page(Path("reports/report.html").read_text())
    assert "Each model was trained once" in page.text
    assert "over test images (Clopper-Pearson; n = 1 replicate)" in Path("reports/tables/comparison.md").read_text()
    assert " ± " not in Path("reports/tables/classification_cnn.md").read_text()


def test_only_models_and_replicates_in_params_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small(tmp_path, models=("cnn", "vit", "hybrid"), replicates=(0, 1, 2))
    monkeypatch.chdir(small(tmp_path, models=("vit", "cnn"), replicates=(0, 1)))
    report.main()
    found = json.loads(Path("reports/metrics.json").read_text())["models"]
    assert list(found) == ["vit", "cnn"]  # in the order of params.yaml
    assert found["cnn"]["accuracy"]["n"] == 2
    assert not Path("reports/tables/classification_hybrid.csv").exists()
    assert Path("reports/evaluations/hybrid-2.json").exists()
    assert "hybrid" not in Path("reports/report.html").read_text()


# tables


def test_comparison_csv_keeps_full_precision_and_the_others_are_for_reading(reported: Path) -> None:
    folder = reported / "reports" / "tables"
    frame = pd.read_csv(folder / "comparison.csv").set_index("model")
    wanted = json.loads((reported / "reports" / "metrics.json").read_text())["models"]
    for model, values in wanted.items():
        assert frame.loc[model, "accuracy"] == values["accuracy"]["mean"]
        assert frame.loc[model, "macro_f1_low"] == values["macro_f1"]["low"]
        assert frame.loc[model, "parameters"] == values["parameters"]
    mean = wanted["cnn"]["accuracy"]
    text = f"{mean['mean']:.4f} [{mean['low']:.4f}, {mean['high']:.4f}]"
    for name in ("comparison.md", "comparison.tex"):
        assert text in (folder / name).read_text(encoding="utf-8")
    assert "11.2 M" in (folder / "comparison.md").read_text(encoding="utf-8")


def test_classification_report_is_scikit_learns(reported: Path) -> None:
    frame = pd.read_csv(reported / "reports/tables/classification_vit.csv", dtype={"class": str}).set_index("class")
    replicates = [Predictions.read(predictions_path(f"vit-{r}", reported)).frame() for r in range(3)]
    wanted = [
        oracle.classification_report(each["actual"], each["predicted"], output_dict=True, zero_division=np.nan)
        for each in replicates
    ]
    for row in [*map(str, range(10)), "macro avg", "weighted avg"]:
        for column, key in (("precision", "precision"), ("recall", "recall"), ("f1", "f1-score")):
            values = [each[row][key] for each in wanted]
            assert frame.loc[row, column] == pytest.approx(np.mean(values))
            assert frame.loc[row, f"{column}_sd"] == pytest.approx(np.std(values, ddof=1))
        assert frame.loc[row, "support"] == wanted[0][row]["support"]
    assert frame.loc["accuracy", "f1"] == pytest.approx(np.mean([each["accuracy"] for each in wanted]))
    assert np.isnan(frame.loc["accuracy", "precision"])


def test_undefined_is_a_dash_and_an_empty_cell_never_0(tmp_path: Path) -> None:
    never = np.array([[[4, 0, 0], [2, 0, 0], [0, 0, 0]], [[3, 1, 0], [1, 1, 0], [0, 0, 0]]])
    table = classes.classification_table("one", never, ["a", "b", "c"], "caption")
    assert table.cells[1][1] == "0.5000 (1 of 2)"  # b is predicted in one of two replicates
    assert table.cells[2][1:4] == ("–", "–", "–")
    assert table.cells[1][3].startswith("0.2500 ± ")  # F1 of 0 and 1/2: b occurs, so it is defined in both
    write(table, tmp_path)
    assert "c,,,0,,,0,,,0,0\n" in (tmp_path / "one.csv").read_text()
    assert "c & -- & -- & -- & 0 \\\\" in (tmp_path / "one.tex").read_text()
    assert score_interval(Interval(0.5, float("nan"), 0.75, 2, "replicates")) == "0.5000 [–, 0.7500]"


def test_latex_and_markdown_escape_names(tmp_path: Path) -> None:
    table = classes.classification_table(
        "x_1", np.eye(2, dtype=int)[None] * 3, ["50%_{a}&b\\", "[c] | *d*"], "A_B ± 1 #2"
    )
    write(table, tmp_path)
    tex, md = ((tmp_path / f"x_1.{ending}").read_text() for ending in ("tex", "md"))
    assert r"50\%\_\{a\}\&b\textbackslash{} & 1.0000" in tex
    assert r"{[c] | *d*} & 1.0000" in tex  # without braces \\[c] would be a length
    assert r"\caption{A\_B $\pm$ 1 \#2}" in tex
    assert all(command in tex for command in (r"\toprule", r"\midrule", r"\bottomrule", r"\label{tab:x-1}"))
    assert r"| [c] \| \*d\* " in md
    assert len({len(re.split(r"(?<!\\)\|", line)) for line in md.splitlines()[2:]}) == 1  # as many cells in each line


def test_a_table_for_people_holds_no_formula_and_its_numbers_stay_numbers(tmp_path: Path) -> None:
    frame = pd.DataFrame({"class": ['=cmd|"/c calc"!A1', "-rf", "cat"], "gap": [-0.5, np.nan, 1.0]})
    frame["n"] = pd.array([1, None, 3], dtype="Int64")
    write(Table("t", "", frame, ("Class",), (("=1",), ("-rf",), ("cat",))), tmp_path)
    text = (tmp_path / "t.csv").read_text()
    assert text == 'class,gap,n\n"\'=cmd|""/c calc""!A1",-0.5,1\n\'-rf,,\ncat,1.0,3\n'


def test_a_table_in_a_terminal_moves_no_cursor() -> None:
    text = table_text(("", "n"), [("a\x1b[2J", "1"), ("\u202eb", "2")])
    assert text.isprintable() is False  # but for the ends of its lines
    assert all(line.isprintable() for line in text.splitlines())


def test_a_table_in_a_terminal_cuts_and_leaves_out_what_has_no_room_and_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    header = ("model", "accuracy", "macro-F1", "training", "weights")
    wide = [("model", "a" * 30, "f" * 30, "t" * 30, "w" * 30)]
    assert table_text(header, wide).splitlines()[-1].split() == [*wide[0]], "a file or a pipe has all"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    fits = table_text(header[:4], [("model", "a" * 40, "f" * 40, "t" * 29)])
    assert {len(line) for line in fits.splitlines()} == {5 + 40 + 40 + 29 + 3 * 2} == {120}
    heading, *_, last = table_text(header, wide).splitlines()
    assert heading.split() == ["model", "accuracy", "macro-F1", "training"]
    assert last == "[no room for: weights]"
    assert table_text(header, [("m" * 150, "a", "f", "t", "w")]).splitlines()[-1].split() == ["m" * 29 + "…", *"aftw"]


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        (quantity(0), "0"),
        (quantity(999), "999"),
        (quantity(1234), "1.23 k"),
        (quantity(999_999), "1.00 M"),
        (quantity(11_181_642), "11.2 M"),
        (quantity(347e9), "347 G"),
        (short(25_128), "25.1 k"),
        (short(4000), "4 k"),
        (short(999_999), "1 M"),
        (short(0.05), "0.05"),
        (size(44_746_568), "44.7 MB"),
        (size(12), "12 B"),
        (duration(3.21), "3.2 s"),
        (duration(59.97), "1 min 0 s"),
        (duration(192), "3 min 12 s"),
        (duration(7260), "2 h 1 min"),
        (score(1 / 3), "0.3333"),
        (enumerated([]), ""),
        (enumerated(["a"]), "a"),
        (enumerated(["a", "b", "c"]), "a, b and c"),
    ],
)
def test_quantities_read_well(found: str, wanted: str) -> None:
    assert found == wanted


# figures


@pytest.mark.usefixtures("drawn")
def test_every_figure_has_the_same_bytes_again_and_leaves_pyplot_alone(tmp_path: Path) -> None:
    history = pd.DataFrame(
        {"epoch": [1, 2], "train_loss": [2, 1], "val_accuracy": [0.2, 0.6], "val_macro_f1": [0.1, 0.5]}
    )
    counts = np.array([[5, 1], [0, 3]])
    others = pyplot.get_fignums()
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        drawing.save(confusion.confusion_matrices_figure({"m": counts}, ["x", "y"]), folder, "confusion")
        drawing.save(training.validation_macro_f1_figure({"m": [history]}, {"m": [(2, 0.5)]}), folder, "validation")
        drawing.save(training.training_curves_figure({"m": [history, history]}), folder, "training")
        drawing.save(class_distribution_figure(["x", "y"], {"train": [5, 2]}, ["y"]), folder, "classes")
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == ["classes.svg", "confusion.svg", "training.svg", "validation.svg"]
    assert pyplot.get_fignums() == others
    for name in names:
        first, second = ((tmp_path / folder / name).read_bytes() for folder in "ab")
        assert first == second, name
        assert b"<dc:date>" not in first


def test_confusion_figure_shows_row_shares_and_counts() -> None:
    counts = np.array([[30, 10, 0], [0, 5, 0], [0, 0, 0]])
    figure = confusion.confusion_matrices_figure({"a": counts, "b": counts.T}, ["x", "y", "z"])
    first, second = figure.axes[:2]
    np.testing.assert_allclose(first.collections[0].get_array().ravel(), [0.75, 0.25, 0, 0, 1, 0, 0, 0, 0])
    assert {text.get_text() for text in first.texts} == {"30", "10", "5"}
    assert [first.get_title(loc="left"), second.get_title(loc="left")] == ["a", "b"]
    assert [first.get_xlabel(), first.get_ylabel()] == ["predicted", "actual"]
    assert first.get_ylim() == (3, 0)  # the first class on top
    many = confusion.confusion_matrices_figure(
        {"a": np.eye(200, dtype=int)}, [f"class {index}" for index in range(200)]
    )
    assert not many.axes[0].texts


def test_a_model_has_one_colour_in_every_figure_and_on_the_page(reported: Path) -> None:
    tones = drawing.colours(["cnn", "vit", "hybrid"])
    assert len(set(tones.values())) == 3
    page = (reported / "reports/report.html").read_text()
    for model, tone in tones.items():
        assert f'style="background:{tone}"></i>{model}' in page
        for name in ("validation_macro_f1", "training_curves"):
            assert tone in (reported / f"reports/figures/{name}.svg").read_text()


def test_evaluated_epochs_are_marked_and_means_end_with_the_shortest_replicate() -> None:
    runs = [
        pd.DataFrame({"epoch": range(1, n + 1), "val_macro_f1": np.linspace(0.1, top, n)})
        for n, top in ((4, 0.5), (3, 0.7))
    ]
    panel = training.validation_macro_f1_figure({"m": runs}, {"m": [(4, 0.8), (2, 0.4)]}).axes[0]  # 0.8: of an average
    marks = [tuple(point) for line in panel.lines if line.get_marker() == "o" for point in line.get_xydata()]
    assert marks == [(4, 0.8), (2, 0.4)]
    assert panel.get_ylim()[1] > 0.8
    bold = max(panel.lines, key=lambda line: (line.get_linewidth(), line.get_marker() == "None"))
    assert list(bold.get_xdata()) == [1, 2, 3]


def without_validation(name: str, replicates: tuple[int, ...] = (0, 1)) -> None:
    """Results of a made-up model as of one that was trained on the validation images too."""
    for replicate in replicates:
        path = Path(f"reports/evaluations/{name}-{replicate}.json")
        evaluation = json.loads(path.read_text())
        evaluation["selected"] |= {"val_macro_f1": None, "val_accuracy": None}
        evaluation["config"]["train"] |= {"include_validation": True, "select": "last"}
        path.write_text(json.dumps(evaluation))
        path = Path(f"reports/histories/{name}-{replicate}.csv")
        history = pd.read_csv(path)
        history[["val_loss", "val_accuracy", "val_macro_f1"]] = np.nan
        history.to_csv(path, index=False)
    settings({f"models.{name}.train": {"include_validation": True, "select": "last"}})


def test_a_model_trained_on_the_validation_images_has_no_validation_score_and_is_no_champion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(small(tmp_path))
    without_validation("cnn")
    report.main()
    metrics = json.loads(Path("reports/metrics.json").read_text())["models"]
    assert "val_macro_f1" not in metrics["cnn"]
    assert 0.3 < metrics["vit"]["val_macro_f1"]["mean"] < 1
    (champion,) = (values[0] for kind, *values in LOGGED if kind == "champion")
    assert champion["model"] == "vit"
    page = Page(Path("reports/report.html").read_text()).text
    assert "Trained on the validation images too: cnn. There are no validation scores of them" in page
    assert page.count("Without a validation curve, trained on those images too: cnn.") == 2
    assert "validation images, trained on too;" in " ".join(Path("reports/cards/cnn.md").read_text().split())
    assert "validation images, by which the epoch was chosen;" in " ".join(
        Path("reports/cards/vit.md").read_text().split()
    )

    LOGGED.clear()
    without_validation("vit")
    report.main()
    assert "champion" not in [kind for kind, *_ in LOGGED]
    page = Page(Path("reports/report.html").read_text()).text
    assert "Trained on the validation images too: all models." in page


def test_a_panel_without_validation_scores_says_why() -> None:
    scored = pd.DataFrame({"epoch": [1, 2], "val_macro_f1": [0.5, 0.6]})
    none = scored.assign(val_macro_f1=np.nan)
    figure = training.validation_macro_f1_figure(
        {"cnn": [scored], "vit": [none]}, {"cnn": [(2, 0.6)], "vit": [(2, None)]}
    )
    told = {panel.get_title(loc="left"): [text.get_text() for text in panel.texts] for panel in figure.axes}
    assert told == {"cnn": [], "vit": ["trained on validation\nimages too: no score"]}
    assert 0.4 < figure.axes[0].get_ylim()[0] < 0.5
    alone = training.validation_macro_f1_figure({"vit": [none]}, {"vit": [(2, None)]}).axes[0]
    assert alone.get_ylim() == (0, 1)
    assert alone.get_xlim() == pytest.approx((0.6, 2.4))


def test_a_panel_ends_with_its_models_last_epoch() -> None:
    """A model of few epochs is not crushed beside one of many."""
    short, long = (
        pd.DataFrame({"epoch": range(1, n + 1)} | dict.fromkeys(("train_loss", "val_accuracy", "val_macro_f1"), 0.5))
        for n in (5, 100)
    )
    histories = {"short": [short], "long": [long]}
    compared = training.validation_macro_f1_figure(histories, {"short": [(5, 0.5)], "long": [(100, 0.5)]})
    errors = training.error_curves_figure(
        {name: [run.assign(train_accuracy=0.5)] for name, (run,) in histories.items()}
    )
    for figure in (compared, errors):
        assert [panel.get_xlim()[1] for panel in figure.axes] == pytest.approx([5.4, 103])
    many = training.training_curves_figure({"short": [short]} | {f"long{number}": [long] for number in range(9)})
    assert [panel.get_xlim()[1] for panel in many.axes[:2]] == pytest.approx([5.4, 103])


def test_metrics_stand_side_by_side_with_their_intervals_and_errors_over_epochs() -> None:
    chart = metric_chart_figure({"cnn": {"Accuracy": (0.9, 0.8, 0.95), "Macro-F1": (0.7, 0.7, 0.7)}})
    panel = chart.axes[0]
    assert [patch.get_height() for patch in panel.patches] == [0.9, 0.7]
    assert [label.get_text() for label in panel.get_xticklabels()] == ["Accuracy", "Macro-F1"]
    run = pd.DataFrame({"epoch": [1, 2], "train_accuracy": [0.5, 0.75], "val_accuracy": [0.6, 0.9]})
    lines = training.error_curves_figure({"cnn": [run]}).axes[0].get_lines()
    assert [line.get_ydata().tolist() for line in lines] == [[0.5, 0.25], pytest.approx([0.4, 0.1])]


def test_a_curve_over_training_images_and_top_5_accuracy_are_reported_where_they_were_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = {"cnn_10": 100, "cnn_20": 200}
    small(tmp_path, models=tuple(sizes), train_images=sizes)
    monkeypatch.chdir(tmp_path)
    report.main()
    assert (tmp_path / "reports/figures/learning_curves.svg").exists()
    assert "Data size: how many training images?" in Page((tmp_path / "reports/report.html").read_text()).text
    rows = pd.read_csv(tmp_path / "reports/tables/metrics.csv").set_index("model")
    assert rows.loc["cnn_10", "top5_accuracy"] == pytest.approx(0.905, abs=0.002)  # of 0.90 and 0.91
    written = json.loads((tmp_path / "reports/metrics.json").read_text())["models"]["cnn_20"]
    assert written["top5_accuracy"]["mean"] == pytest.approx(rows.loc["cnn_20", "top5_accuracy"])
    assert written["top5_accuracy"]["n"] == 2


def test_latency_is_a_bar_of_the_replicates_mean_a_dot_for_each_and_its_number() -> None:
    figure = latency_figure({"a": [3.0, 3.2, 3.7], "b": [41.0, 41.0, 41.0]})
    panel = figure.axes[0]
    assert [bar.get_width() for bar in panel.patches] == pytest.approx([3.3, 41])
    assert sorted(panel.lines[0].get_xdata()) == [3.0, 3.2, 3.7]
    assert [text.get_text() for text in panel.texts] == ["mean 3.30 s", "mean 41.0 s"]
    assert [label.get_text() for label in panel.get_yticklabels()] == ["a", "b"]
    assert panel.get_ylim()[0] > panel.get_ylim()[1]  # the first model on top
    once = latency_figure({"a": [3.0]}).axes[0]
    assert not once.lines  # a dot on its own bar says nothing


def test_latency_is_drawn_where_it_was_measured_and_says_on_what(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(small(tmp_path))
    report.main()
    page = Page(Path("reports/report.html").read_text()).text
    assert (
        "Forward pass over the 360 test images of Optical recognition of handwritten digits on the CPU (A laptop's"
        " processor; 2 threads), in float32, 64 at a time. Bars: means over n = 2 replicates; dots: each."
    ) in page
    small(tmp_path, latency=False)
    report.main()
    assert not Path("reports/figures/latency.svg").exists()
    assert not Path("reports/tables/latency.md").exists()
    assert "Forward pass over" not in Page(Path("reports/report.html").read_text()).text


def test_more_models_than_colours_are_told_apart_by_panels_with_their_names() -> None:
    history = pd.DataFrame({"epoch": [1, 2, 3], "train_loss": [2, 1, 0.5], "val_accuracy": [0.2, 0.6, 0.7]})
    few, many = ({f"m{index}": [history, history] for index in range(count)} for count in (8, 17))
    assert len(training.training_curves_figure(few).axes) == 2
    panels = [panel for panel in training.training_curves_figure(many).axes if panel.get_visible()]
    assert [panel.get_title(loc="left") for panel in panels] == [*many, *many]
    assert {panel.get_ylim() for panel in panels[:17]} == {panels[0].get_ylim()}  # one scale for a quantity
    matrices = confusion.confusion_matrices_figure(dict.fromkeys(many, np.eye(10, dtype=int) * 980), list("0123456789"))
    assert max(matrices.get_size_inches()) < 25
    assert all(len(panel.texts) == 10 for panel in matrices.axes[:17])  # counts can still be read


# the page


def test_the_page_stands_alone_and_is_well_formed(reported: Path) -> None:
    html = (reported / "reports/report.html").read_text()
    page = Page(html)
    assert not page.open
    assert not page.unnamed
    assert len(page.ids) == len(set(page.ids))
    assert all(address.startswith(("data:", "#")) for address in page.addresses)
    assert {address[1:] for address in page.addresses if address.startswith("#")} <= set(page.ids)
    assert set(re.findall(r"url\(#([^)]*)\)", html)) <= set(page.ids)
    assert not re.search(r"@import|<script[^>]* src|<link[^>]* href=\"[^d]|url\(['\"]?http", html)
    assert "prefers-color-scheme: dark" in html
    assert len(re.findall("<svg ", html)) == 12


def test_the_page_says_what_leads_how_sure_that_is_and_what_it_rests_on(reported: Path) -> None:
    page = Page((reported / "reports/report.html").read_text()).text
    scores = json.loads((reported / "reports/metrics.json").read_text())["models"]
    best = max(scores, key=lambda model: scores[model]["macro_f1"]["mean"])
    top = scores[best]["macro_f1"]
    assert (
        f"{best} has the highest mean test macro-F1, {top['mean']:.4f} (95% interval {top['low']:.4f} to"
        f" {top['high']:.4f} over 3 replicates and test images)"
    ) in page
    for phrase in (
        "The test covers seeds and test images and is corrected for all pairs",
        "All models share every one of these settings.",
        "Initialisation of all models: from scratch.",
        "Every interval of a score is over n = 3 replicates and test images",
        "Trained on cpu in fp32",
        "9 (3 models × 3 replicates), 25 epochs each",
        "PyTorch 2.11.0, timm 1.0.20, Python 3.11.9",
        "5, 6, 7, 8, 9",
        "1,437",
        "dvc repro",
    ):
        assert phrase in page


def test_the_page_opens_with_the_verdict_and_has_every_pair(reported: Path) -> None:
    page = Page((reported / "reports/report.html").read_text()).text
    frame = pd.read_csv(reported / "reports/tables/pairs.csv")
    assert list(frame["model"] + frame["other"]) == ["cnnvit", "cnnhybrid", "vithybrid"]
    scores = json.loads((reported / "reports/metrics.json").read_text())
    for row, found in zip(frame.to_dict("records"), scores["pairs"], strict=True):
        ours, theirs = (scores["models"][row[key]]["macro_f1"]["mean"] for key in ("model", "other"))
        assert row["macro_f1_difference"] == pytest.approx(ours - theirs)
        assert found["models"] == [row["model"], row["other"]]
        assert found["verdict"] == row["verdict"]
        assert found["macro_f1"]["p_holm"] == row["macro_f1_p_holm"]
        assert f"{row['model']} vs {row['other']} {row['verdict']}" in page
    best = max(scores["models"], key=lambda model: scores["models"][model]["macro_f1"]["mean"])
    assert re.search(
        rf"{best} has the highest .*; it is (better than|not distinguishable from) .*Holm-adjusted p", page
    )
    assert "Which differences hold?" in page
    assert "a difference has to exceed 4.4 standard deviations" in page


def test_one_replicates_verdict_is_on_these_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(small(tmp_path, replicates=(7,)))
    report.main()
    page = Page(Path("reports/report.html").read_text()).text
    assert "on these weights, seeds not varied, it is better than vit (difference" in page
    assert "The test covers test images, not seeds" in page


def test_many_models_are_told_apart_in_a_matrix_that_can_be_read_aloud(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"net{index}" for index in range(7)]
    monkeypatch.chdir(small(tmp_path, models=names, images=90))
    report.main()
    html = Path("reports/report.html").read_text()
    page = Page(html)
    assert not page.open
    assert len(pd.read_csv("reports/tables/pairs.csv")) == 21
    words = re.findall(r'<td title="(better|worse|not distinguishable), net', html)
    assert len(words) == 42
    assert sum(page.text.count(word) for word in set(words)) >= 42 + 6  # in words, not in signs alone
    assert len(Path("reports/tables/pairs.md").read_text().splitlines()) == 10  # the best beside six others


def test_calibration_is_that_of_the_predictions(reported: Path) -> None:
    frame = pd.read_csv(reported / "reports/tables/calibration.csv").set_index("model")
    for model in ("cnn", "vit", "hybrid"):
        surest = []
        for replicate in range(3):
            each = Predictions.read(predictions_path(f"{model}-{replicate}", reported))
            surest.append(each.right[np.argsort(-each.confidence, kind="stable")[:288]].mean())
        assert frame.loc[model, "selective_accuracy"] == pytest.approx(np.mean(surest), abs=0.003)  # but for ties
        assert frame.loc[model, "selective_accuracy"] > frame.loc[model, "accuracy"]
        assert 0 < frame.loc[model, "calibration_error_low"] < frame.loc[model, "calibration_error"] < 0.2
    page = Page((reported / "reports/report.html").read_text()).text
    assert "15 bins of equal width (Guo et al. 2017)" in page


def test_calibration_after_the_temperature_stands_beside_the_raw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(small(tmp_path))
    for path in Path("reports/evaluations").glob("*.json"):
        evaluation = json.loads(path.read_text())
        values = {"temperature": 1.5, "calibration_error_scaled": 0.0123, "log_loss": 0.5, "log_loss_scaled": None}
        if path.stem.startswith("cnn"):
            values |= {"temperature": 2.5 + evaluation["replicate"] / 100, "log_loss": 1.25}
        path.write_text(json.dumps({**evaluation, "calibration": values}))
    report.main()
    head, *rows = Path("reports/tables/calibration.md").read_text().splitlines()[2:]
    assert [cell.strip() for cell in head.strip("|").split("|")][5:9] == [
        "ECE, scaled",
        "Log loss",
        "Log loss, scaled",
        "Temperature",
    ]
    cells = [cell.strip() for cell in rows[-1].strip("|").split("|")]
    assert (cells[5].split()[0], cells[7], cells[8].split()[0]) == ("0.0123", "–", "1.5000")
    frame = pd.read_csv("reports/tables/calibration.csv").set_index("model")
    low, mean, high = frame.loc["cnn", ["temperature_low", "temperature", "temperature_high"]]
    assert 2 < low < mean < high, "scores end at 1, temperatures do not"
    assert frame.loc["cnn", ["log_loss_low", "log_loss_high"]].to_list() == [1.25, 1.25]
    assert "Scaled: with the logits" in Path("reports/tables/calibration.md").read_text()


def test_latencies_of_both_runtimes_stand_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """cnn was timed in both runtimes, vit before there was a second."""
    monkeypatch.chdir(small(tmp_path))
    for path in Path("reports/evaluations").glob("*.json"):
        evaluation = json.loads(path.read_text())
        cost = {"cpu_ms_per_image": 0.25, "cpu_ms_alone": 12.34, "cpu_threads": 2, "cpu_batch": 128}
        if path.stem.startswith("cnn"):
            cost |= {"onnx_ms_alone": 1 + 0.5 * evaluation["replicate"], "onnx_ms_per_image": 0.0625}
            cost |= {"onnx_differing": 0}
        path.write_text(json.dumps({**evaluation, "cost": evaluation["cost"] | cost}))
    report.main()
    text = Path("reports/tables/latency.md").read_text()
    caption, _, head, _, *rows = text.splitlines()
    assert [cell.strip() for cell in head.strip("|").split("|")] == [
        "Model",
        "PyTorch, one alone",
        "PyTorch, in batches",
        "ONNX Runtime, one alone",
        "ONNX Runtime, in batches",
        "n",
    ]
    assert [[cell.strip() for cell in row.strip("|").split("|")] for row in rows] == [
        ["cnn", "12.3 ± 0.0 ms", "0.250 ± 0.000 ms", "1.25 ± 0.35 ms", "0.0625 ± 0.0000 ms", "2"],
        ["vit", "12.3 ± 0.0 ms", "0.250 ± 0.000 ms", "–", "–", "2"],
    ]
    assert "on the CPU (A laptop's processor; 2 threads)" in caption
    assert "for one alone and in batches of 128" in caption
    assert "named the same class as PyTorch for all 360 test images of the 2 trainings compared" in caption
    frame = pd.read_csv("reports/tables/latency.csv").set_index("model")
    assert frame.loc["cnn", ["onnx_ms_alone", "onnx_ms_alone_sd"]].to_list() == pytest.approx([1.25, 0.125**0.5])
    assert frame.loc["vit"].isna()["onnx_ms_alone"]
    assert "1.25 ± 0.35 ms" in Page(Path("reports/report.html").read_text()).text

    path = Path("reports/evaluations/cnn-1.json")
    evaluation = json.loads(path.read_text())
    evaluation |= {"timed_on": "Another one", "images": 100}  # of a fold; not where it was trained
    path.write_text(json.dumps({**evaluation, "cost": evaluation["cost"] | {"onnx_differing": 3}}))
    report.main()
    caption = Path("reports/tables/latency.md").read_text()
    assert "another class than PyTorch for 3 of 460 images" in caption
    assert "on the CPU (A laptop's processor and Another one; 2 threads)" in caption
    path.write_text(json.dumps({**evaluation, "cost": evaluation["cost"] | {"onnx_differing": 0}}))
    report.main()
    caption = Path("reports/tables/latency.md").read_text()
    assert "the same class as PyTorch for all test images of the 2 trainings compared" in caption


def test_latencies_are_those_of_the_stage_that_times_all_models_in_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Evaluations have some too, of before there was such a stage: they no longer count."""
    published = {"table": "Table 3", "dataset": "digits", "rows": {"CNN": {"model": "cnn", "cpu_seconds": 0.1}}}
    monkeypatch.chdir(small(tmp_path, published=[published]))
    common = {"cpu_images": 360, "cpu_ms_alone": [2.0, 2.0, 2.0]}
    times = {
        "processor": "Another one",
        "threads": 1,
        "batch": 128,
        "models": {
            "cnn": {"cpu_ms_per_image": [0.25, 0.5, 0.75], **common},
            "vit": {"cpu_ms_per_image": [0.5, 0.5, 0.5], **common},
        },
    }
    Path("reports/latency.json").write_text(json.dumps(times))
    report.main()
    caption, *_, cnn, vit = Path("reports/tables/latency.md").read_text().splitlines()
    assert "on the CPU (Another one; 1 thread)" in caption
    assert "standard deviations over n = 3 rounds, in which the models took turns." in caption
    assert [cell.strip() for cell in cnn.strip("|").split("|")] == ["cnn", "2.00 ± 0.00 ms", "0.500 ± 0.250 ms", "3"]
    assert "0.500 ± 0.000 ms" in vit
    page = Page(Path("reports/report.html").read_text()).text
    assert "128 at a time. Bars: means over n = 3 rounds, in which the models took turns; dots: each." in page
    card = pd.read_csv("reports/tables/scorecard.csv").iloc[0]
    assert (card["ours"], card["n"], card["interval_over"]) == (pytest.approx(0.18), 3, "rounds")
    assert card["high"] - card["ours"] == pytest.approx(4.302653 * 0.09 / 3**0.5, rel=1e-4)  # t, 2 degrees of freedom

    times["models"]["resnet"] = times["models"].pop("cnn")
    Path("reports/latency.json").write_text(json.dumps(times))
    with pytest.raises(StageError, match=r"of other models than params\.yaml has; run `dvc repro -f latency`"):
        report.main()


def test_models_scored_on_other_images_are_not_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(small(tmp_path))
    for replicate in (0, 1):
        trees.reverse_predictions(predictions_path(f"vit-{replicate}"))  # the same confusion matrix
    with pytest.raises(StageError, match="those of cnn and vit are not all of the same test images"):
        report.main()


def test_probabilities_that_are_missing_make_a_dash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(small(tmp_path, classes=("NA", "b", "c"), images=60))
    path = predictions_path("vit-0")
    found = Predictions.read(path)
    undefined = np.full((60, 3), np.nan)  # as evaluate leaves a training that diverged
    Predictions.of(found.classes, found.actual, found.predicted, undefined, found.images).write(path)
    report.main()
    lines = Path("reports/tables/calibration.md").read_text().splitlines()
    assert lines[-1].replace(" ", "").startswith("|vit|–")


def test_variants_overrides_and_mixed_initialisation_are_named_on_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = small(tmp_path / "studies" / "faces", classes=fake_study.FACES, overrides={"vit": {"lr": 0.01}})
    monkeypatch.chdir(folder)
    edit(Path("reports/data.json"), variant="JPEG copy", published={"train": 12271, "test": 3068}, flip=False)
    for replicate in (0, 1):
        edit(Path(f"reports/evaluations/vit-{replicate}.json"), initialisation="ImageNet (augreg_in21k)")
    report.main()
    page = Page(Path("reports/report.html").read_text()).text
    for phrase in (
        "Variant of the data set: JPEG copy",
        "The images are not the official data set but a variant of it: JPEG copy.",
        "vit: lr 0.01",
        "0.001 (cnn); 0.01 (vit)",
        "The models do not start alike (cnn: from scratch; vit: ImageNet (augreg_in21k))",
        "no, it would change classes of this data set",
        "12,271",
        "cd studies/faces && dvc repro",
    ):
        assert phrase in page
    assert "(JPEG copy)" in Path("reports/tables/comparison.md").read_text()
    assert "(JPEG copy)" in Path("reports/tables/classification_vit.tex").read_text()
    assert json.loads(Path("reports/metrics.json").read_text())["study"] == "faces"
    assert "of study faces" in Path("reports/cards/vit.md").read_text(), "whatever name an earlier data.json has"


@pytest.mark.parametrize(("shareable", "shown"), [(True, "training images"), (False, "test cards")])
def test_the_page_says_how_uneven_the_classes_are_and_what_its_pictures_show(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shareable: bool, shown: str
) -> None:
    monkeypatch.chdir(small(tmp_path))
    rows = [{"class": name, "train": 10 + 15 * (name == "3"), "val": 1, "test": 1} for name in "0123456789"]
    edit(Path("reports/data.json"), imbalance=1, classes=rows, shareable=shareable)
    report.main()
    text = Page(Path("reports/report.html").read_text()).text
    assert "The largest class has 2.5 times the training images of the smallest." in text
    assert f"Augmentation: {shown}, as they are" in text


def test_the_page_says_what_one_of_several_views_comes_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(small(tmp_path))
    for replicate, accuracy in ((0, 0.5), (1, 0.75)):
        path = Path(f"reports/evaluations/vit-{replicate}.json")
        evaluation = json.loads(path.read_text()) | {"one_view": {"accuracy": accuracy}}
        evaluation["config"]["augment"]["test_crops"] = 2
        path.write_text(json.dumps(evaluation))
    settings({"models.vit.augment": {"test_crops": 2}})
    report.main()
    said = "several views of each image: vit (2 views; of the first alone its accuracy is 0.6250). What was timed goes"
    assert said in Page(Path("reports/report.html").read_text()).text


@pytest.mark.usefixtures("drawn")
def test_names_that_look_like_markup_are_shown_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nasty = ["<b>&amp;", "$x_1$", 'quote"s']
    monkeypatch.chdir(small(tmp_path, models=("cnn",), classes=nasty))
    report.main()
    html = Path("reports/report.html").read_text()
    page = Page(html)
    assert not page.open
    assert "&lt;b&gt;&amp;amp;" in html
    assert all(name in page.text for name in nasty)
    for path in Path("reports/figures").glob("*.svg"):
        ET.parse(path)
    words = ET.parse("reports/figures/class_distribution.svg").getroot().itertext()
    assert set(nasty) <= {word.strip() for word in words}  # `$` starts no formula


def test_one_model_is_reported_without_ranks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(small(tmp_path, models=("cnn",)))
    report.main()
    page = Page(Path("reports/report.html").read_text()).text
    assert "cnn reaches a mean test macro-F1 of" in page
    assert "verdict" not in page
    assert "highest" not in page


# the stage


def test_the_comparison_is_printed_and_neither_torch_nor_mlflow_is_imported(reported: Path) -> None:
    *lines, imported = (reported / "stdout").read_text().splitlines()
    accuracy = json.loads((reported / "reports/metrics.json").read_text())["models"]["hybrid"]["accuracy"]
    line = next(line for line in lines if line.startswith("hybrid "))
    assert f"{accuracy['mean']:.4f} [{accuracy['low']:.4f}, {accuracy['high']:.4f}]" in line
    assert max(map(len, lines)) <= 120
    assert not {"torch", "timm", "mlflow"} & set(imported.split())


def test_metrics_tables_figures_and_page_are_tracked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(small(tmp_path))
    report.main()
    values = next(entry[1] for entry in LOGGED if entry[0] == "metrics")
    wanted = json.loads(Path("reports/metrics.json").read_text())["models"]["vit"]["macro_f1"]
    assert (values["vit/macro_f1"], values["vit/macro_f1_low"]) == (wanted["mean"], wanted["low"])
    assert {str(entry[1]) for entry in LOGGED if entry[0] == "artifact"} == {
        "reports/tables",
        "reports/figures",
        "reports/cards",
        "reports/report.html",
    }


@pytest.mark.usefixtures("drawn")
def test_a_second_report_has_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(small(tmp_path, models=("cnn",)))
    contents = []
    for _ in range(2):
        report.main()
        made = [*Path("reports").glob("*.*"), *Path("reports/tables").iterdir(), *Path("reports/figures").iterdir()]
        contents.append({path: path.read_bytes() for path in made})
    assert contents[0] == contents[1]


@pytest.mark.parametrize(
    ("lost", "stage"),
    [
        ("data.json", "split"),
        ("augmentation.png", "preview"),
        ("evaluations/vit-1.json", "evaluate@vit-1"),
        ("predictions/cnn-0.parquet", "predictions"),
        ("histories/vit-0.csv", "train@vit-0"),
    ],
)
def test_a_missing_file_names_the_stage_to_run_and_nothing_is_written(
    lost: str, stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(small(tmp_path))
    (Path("reports") / lost).unlink()
    with pytest.raises(StageError, match=f"reports/{lost}: not found; run `dvc repro {stage}` in the study's folder"):
        report.main()
    assert not any((Path("reports") / name).exists() for name in ("metrics.json", "tables", "figures", "report.html"))


def test_data_of_an_earlier_version_are_named_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(fake_study.write(tmp_path, ("cnn",), replicates=(0,), epochs=1))
    data = json.loads(Path("reports/data.json").read_text())
    del data["caveats"]
    Path("reports/data.json").write_text(json.dumps(data))
    with pytest.raises(StageError, match=r"no caveats in it, perhaps of an earlier version; run `dvc repro -f split`"):
        report.main()


def test_files_that_do_not_fit_together_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(small(tmp_path))
    path = Path("reports/evaluations/cnn-1.json")
    whole = path.read_text()
    content = json.loads(whole)
    rows = content["classes"]
    turned = [{**row, "predicted_as": other["predicted_as"]} for row, other in zip(rows, rows[::-1], strict=True)]
    edit(path, classes=turned)
    with pytest.raises(StageError, match=r"its confusion matrix is not that of reports/predictions/cnn-1.parquet"):
        report.main()
    edit(path, classes=[{**row, "class": "another"} for row in rows])
    with pytest.raises(StageError, match=r"its classes are not those of reports/data.json"):
        report.main()
    path.write_text(whole[: len(whole) // 2])
    with pytest.raises(StageError, match=r"not readable as JSON .*; run `dvc repro -f evaluate@cnn-1`"):
        report.main()
    path.write_text(whole)
    Path("reports/histories/cnn-0.csv").write_text("epoch,lr\n1,0.1\n")
    with pytest.raises(
        StageError, match=r"histories/cnn-0.csv: not readable as a table with columns epoch, train_loss"
    ):
        report.main()


def test_a_fault_while_drawing_leaves_no_output_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(small(tmp_path))
    before = sorted(Path("reports").rglob("*"))
    monkeypatch.setattr(training, "training_curves_figure", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        report.main()
    assert sorted(Path("reports").rglob("*")) == before


# what the doctor found


def page_of(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(folder)
    report.main()
    return Page(Path("reports/report.html").read_text()).text


def test_the_page_says_what_leaks_from_test_to_training_do_to_the_accuracy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = small(tmp_path)
    rows = [0, 3, 4]
    fake_study.write_doctor(
        folder / "reports/doctor.json",
        duplicate_groups=2,
        duplicate_images=3,
        equal_train_test=2,
        leaked_test_images=3,
        leaked_test_rows=rows,
        conflicting_labels=1,
    )
    text = page_of(folder, monkeypatch)
    found = [Predictions.read(path) for path in sorted((folder / "reports/predictions").glob("cnn-*.parquet"))]
    right = [np.delete(each.right, rows).mean() for each in found]
    assert f"{sum(right) / len(right):.4f} without" in text
    assert "2 groups, 2 in training and test" in text
    assert "1 group of equal images has more than one label" in text


def test_clean_data_are_called_clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = page_of(small(tmp_path), monkeypatch)
    assert "No two of the 500 images have equal pixels." in text
    assert "occur in training" not in text
