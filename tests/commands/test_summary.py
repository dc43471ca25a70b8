"""One table over studies: models by name, mean ranks, a verdict where there are enough data sets, and no mixtures."""

import csv
import json
import shutil
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipeline.base.errors import StageError
from pipeline.commands import summary
from tests import fake_study

MODELS = ("cnn", "vit", "hybrid")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fake_study.write(tmp_path_factory.mktemp("study") / "one", replicates=(0,), epochs=2, images=40)


def study(template: Path, folder: Path, number: int, **scores: float) -> Path:
    """A study that has run on a data set of its own; its reports as git has them, without predictions."""
    shutil.copytree(template, folder, ignore=shutil.ignore_patterns("predictions", "histories"))
    edit(folder / "reports/data.json", dataset=f"set{number}", title=f"Set {number}")
    models = {
        name: {"macro_f1": {"mean": mean, "low": mean - 0.01, "high": mean + 0.01, "n": 3}}
        for name, mean in scores.items()
    }
    (folder / "reports/metrics.json").write_text(json.dumps({"study": folder.name, "models": models, "pairs": []}))
    return folder


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def several(template: Path, folder: Path, count: int) -> list[Path]:
    """Studies in all of which cnn is ahead of the others, which change places."""
    return [
        study(template, folder / f"s{number}", number, cnn=0.9 + number / 1000, vit=0.8, hybrid=0.79 + number % 2 / 50)
        for number in range(count)
    ]


def run(*studies: Path, models: tuple[str, ...] = (), metric: str = "macro_f1") -> None:
    summary.run(Namespace(studies=list(studies), metric=metric, models=models))


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_seven_data_sets_that_agree_show_that_one_model_is_better(
    template: Path, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(*several(template, work, 7), work / "never-ran")
    printed = capsys.readouterr().out
    assert "Of 3 pairs, 2 differ over 7 data sets: cnn is better than vit, Holm-adjusted p = 0.047" in printed
    assert "Critical difference of mean ranks (Nemenyi, 5%): 1.25." in printed
    assert "without results, left out:" in printed
    assert "never-ran" in printed
    ranks = (work / "reports/summary/summary.md").read_text().splitlines()[-1]
    assert [cell.strip() for cell in ranks.split("|")[1:-1]] == ["Mean rank", "1.00", "2.43", "2.57", "7 data sets"]
    rows = list(csv.DictReader((work / "reports/summary/summary.csv").read_text().splitlines()))
    assert len(rows) == 21
    assert list(rows[0].values()) == ["s0", "Set 0", "cnn", "0.9", "0.89", "0.91", "3"]
    assert r"\midrule" + "\nMean rank" in (work / "reports/summary/summary.tex").read_text()
    assert "Wilcoxon" in (work / "reports/summary/pairs.tex").read_text()
    assert "mean rank" in (work / "reports/summary/ranks.svg").read_text()


def test_two_data_sets_are_too_few_to_say(template: Path, work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(*several(template, work, 2))
    printed = capsys.readouterr().out
    assert "Too few data sets to say which model is better: 2 data sets, where 3 models take at least 7" in printed
    assert "better than" not in printed
    assert not (work / "reports/summary/pairs.csv").exists()


def test_studies_of_one_name_keep_their_own_scores(template: Path, work: Path) -> None:
    """The root of each checkout is called digits."""
    checkouts = [
        study(template, work / f"checkout{number}/digits", number, cnn=cnn, vit=0.8)
        for number, cnn in enumerate((0.95, 0.6))
    ]
    run(*checkouts, models=("cnn", "vit"))
    with (work / "reports/summary/summary.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["model"] == "cnn"]
    assert [(row["data set"], float(row["mean"])) for row in rows] == [("Set 0", 0.95), ("Set 1", 0.6)]


def test_a_summary_is_the_same_bytes_again(template: Path, work: Path) -> None:
    studies = several(template, work, 7)
    run(*studies)
    before = {path.name: path.read_bytes() for path in (work / "reports/summary").iterdir()}
    run(*studies)
    assert {path.name: path.read_bytes() for path in (work / "reports/summary").iterdir()} == before


def change_config(folder: Path, part: str, key: str, value: Any) -> None:
    path = folder / "reports/evaluations/vit-0.json"
    config = json.loads(path.read_text())["config"]
    config[part][key] = value
    edit(path, config=config)


def tune(folder: Path, trials: int) -> None:
    yaml = YAML()
    params = yaml.load(folder / "params.yaml")
    params["tune"]["trials"] = list(range(trials))
    params["tune"]["models"] = {name: {"train.lr": {"log_uniform": [0.001, 0.1]}} for name in MODELS}
    params["tune"]["models"]["vit"]["dropout"] = {"uniform": [0.0, 0.5]}
    yaml.dump(params, folder / "params.yaml")


def folds(folder: Path) -> None:
    edit(folder / "reports/data.json", cross_validation={"folds": 5, "by": "subject"})


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda folder: change_config(folder, "train", "lr", 0.5), "vit: train.lr is 0.001 in s0, 0.5 in s1"),
        (lambda folder: change_config(folder, "augment", "test_crops", 10), "vit: augment.test_crops is 1 in s0, 10"),
        (lambda folder: change_config(folder, "model", "dropout", 0.5), "vit: model.dropout is 0.0 in s0, 0.5 in s1"),
        (folds, "cnn: replicates is seeds in s0, 5 folds by subject in s1"),
        (lambda folder: tune(folder, 8), "cnn: tuned is no in s0, not set in s1"),
        (lambda folder: edit(folder / "reports/data.json", dataset="set0"), "s0 and s1 are of one data set"),
    ],
    ids=["settings", "views", "network", "folds", "tuned", "data set"],
)  # fmt: skip
def test_studies_that_were_not_done_alike_are_refused(template: Path, work: Path, spoil: Any, said: str) -> None:
    studies = several(template, work, 2)
    spoil(studies[1])
    with pytest.raises(StageError) as raised:
        run(*studies)
    assert said in str(raised.value)
    assert not (work / "reports").exists()


def test_one_folder_of_images_at_two_sizes_is_one_data_set(template: Path, work: Path) -> None:
    studies = several(template, work, 2)
    for number, each in enumerate(studies):
        digests = {"fit": f"fit {number}", "test": f"test {number}"}
        edit(each / "reports/data.json", dataset="folder", digests=digests)
        (each / "reports/source.json").write_text(json.dumps({"source": "~/here", "sha256": f"images {number}"}))
    run(*studies)
    edit(studies[1] / "reports/source.json", source="~/there", sha256="images 0")
    with pytest.raises(StageError, match=r"s0 and s1 are of one data set, Set 1, which counts once, whatever its"):
        run(*studies)


def test_what_trials_of_one_search_chose_and_what_a_machine_is_may_differ(template: Path, work: Path) -> None:
    studies = several(template, work, 2)
    for each in studies:
        tune(each, 8)
    change_config(studies[1], "train", "lr", 0.5)
    change_config(studies[1], "train", "device", "cuda")
    change_config(studies[1], "model", "dropout", 0.3)
    run(*studies)
    tune(studies[1], 16)
    with pytest.raises(StageError, match=r"tune.trials is 8 in s0, 16 in s1"):
        run(*studies)


def test_what_nothing_reads_may_differ(template: Path, work: Path) -> None:
    """The steps of another schedule, an average that is not taken."""
    studies = several(template, work, 2)
    for key, value in {"step_epochs": 7, "gamma": 0.5, "average": "ema", "focal_gamma": 1.0}.items():
        change_config(studies[1], "train", key, value)
    run(*studies)
    for each in studies:
        change_config(each, "train", "schedule", "step")
    with pytest.raises(StageError, match=r"vit: train.step_epochs is .* in s0, 7 in s1"):
        run(*studies)


def test_models_that_were_treated_alike_can_be_chosen(template: Path, work: Path) -> None:
    studies = several(template, work, 2)
    change_config(studies[1], "train", "lr", 0.5)
    run(*studies, models=("cnn", "hybrid"))
    assert (work / "reports/summary/summary.md").exists()
    with pytest.raises(StageError, match=r"--models: resnet is no model of s0"):
        run(*studies, models=("cnn", "resnet"))


def test_studies_without_results_or_models_in_common_are_refused(template: Path, work: Path) -> None:
    with pytest.raises(StageError, match=r"none of these folders has results"):
        run(work)
    ours, theirs = study(template, work / "a", 0, cnn=0.9, vit=0.8), study(template, work / "b", 1, cnn=0.9, hybrid=0.8)
    with pytest.raises(StageError, match=r"a, b have 1 model in common"):
        run(ours, theirs)
    with pytest.raises(StageError, match=r"no accuracy of cnn; run `dvc repro`"):
        run(ours, metric="accuracy")
