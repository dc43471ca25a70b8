"""`versus experiments`: a terminal's width holds what changed and the validation score of each experiment."""

from argparse import Namespace
from pathlib import Path

import pytest

from pipeline.base.errors import StageError
from pipeline.commands import experiments as command
from pipeline.report import experiments
from tests import repo
from tests.commands.test_ablation import GRID, entry, shown


def test_each_experiment_has_what_it_changed_and_the_scores_of_the_models_that_it_can_change(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(experiments, "show", lambda: shown(*GRID, entry("slow", 0.5, 0.4, train__lr=0.01)))
    command.run(Namespace())
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == ["Experiment", "Model", "val_macro_f1", "n", "Changed"]
    assert rows[2:10] == [
        ["the", "commit", "cnn", "0.8200", "[0.8000,", "0.8400]", "3", "as", "it", "is"],
        ["the", "commit", "vit", "0.6200", "[0.6000,", "0.6400]", "3", "as", "it", "is"],
        ["both", "vit", "0.8000", "[0.7800,", "0.8200]", "3", "models.vit.depth=4", "models.vit.dim=16"],
        ["deep", "vit", "0.7200", "[0.7000,", "0.7400]", "3", "models.vit.depth=4"],
        ["slow", "cnn", "0.5200", "[0.5000,", "0.5400]", "3", "train.lr=0.01"],
        ["slow", "vit", "0.4200", "[0.4000,", "0.4400]", "3", "train.lr=0.01"],
        ["wide", "vit", "0.6600", "[0.6400,", "0.6800]", "3", "models.vit.dim=16"],
        [],
    ]
    assert rows[10][:8] == ["4", "experiments", "of", "the", "last", "commit,", "1", "without"]


def test_no_line_is_longer_than_120_characters_and_nothing_of_what_changed_is_lost() -> None:
    changed = {f"augment__{'strong' * 3}__{letter}": letter * 9 for letter in "abcdefgh"}
    base, finished, _ = experiments.read(shown(entry("a-name-that-somebody-thought-of-and-liked", 0.8, 0.6, **changed)))
    lines = command.lines(base, finished)
    assert max(map(len, lines)) <= 120
    words = " ".join(lines).split()
    assert all(f"{key.replace('__', '.')}={value}" in words for key, value in changed.items())


def test_an_experiment_of_another_study_is_left_out() -> None:
    """DVC lists at every study all experiments of a commit; one that changed another leaves this one as it is."""
    base, finished, failed = experiments.read(shown(entry("theirs", 0.8, 0.6), entry("again", 0.8, 0.7)))
    assert base.models["vit"]["val_macro_f1"]["mean"] == 0.62
    assert [each.name for each in finished] == ["again"], "no setting is another, but the scores are"
    assert failed == 1, "which is in the queue still"


def test_dvc_reads_a_study_in_a_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And where its dvc.yaml is a link there, as studies of version 0.1 have it, the line says what to do."""
    study = repo.copy(tmp_path / "repo") / "studies/digits_splits"
    monkeypatch.chdir(study)
    workspace, commit = experiments.show()
    assert not commit.get("error")
    assert commit["data"]["params"]["params.yaml"]["data"] == workspace["data"]["params"]["params.yaml"]["data"]
    (study / "dvc.yaml").unlink()
    (study / "dvc.yaml").symlink_to("../../dvc.yaml")
    repo.commit(tmp_path / "repo")
    with pytest.raises(StageError, match=r"DVC cannot read this study in the last commit .*cp \.\./\.\./dvc.yaml"):
        experiments.read(experiments.show())


def test_an_experiment_that_changes_no_models_score_is_listed_too() -> None:
    base, finished, _ = experiments.read(shown(entry("same", 0.8, 0.6, evaluate__onnx=True)))
    assert command.lines(base, finished)[-1].split() == ["same", "evaluate.onnx=true"]
