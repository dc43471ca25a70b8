"""A paper's forms say what the study's files say, name the file, and otherwise that it is not known."""

import contextlib
import dataclasses
import re
from argparse import Namespace
from pathlib import Path

import pytest

from pipeline.commands import paper as command
from pipeline.params.read import load_params
from pipeline.records.looks import Earlier, Look
from pipeline.report import paper, results
from pipeline.report.found import Found
from tests import repo


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A committed study, tuned; no repository around it."""
    return repo.export(tmp_path_factory.mktemp("clone"), "studies/digits_tuned") / "studies/digits_tuned"


@pytest.fixture(scope="module")
def found(study: Path) -> Found:
    with contextlib.chdir(study):
        return results.read(load_params())


@pytest.fixture(autouse=True)
def _in_the_study(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(study)


def test_the_set_up_paragraph_and_the_checklist_are_written_from_a_clone_alone(
    found: Found, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(results, "read", lambda _: found)
    command.run(Namespace())
    printed = capsys.readouterr().out
    assert "not known: A clear explanation of any assumptions" in printed
    assert "not known: Specification of dependencies" in printed, "there is no constraints.txt here"
    setup = (paper.FOLDER / "setup.md").read_text()
    assert "586 training, 288 validation and 360 test images in 10 classes" in setup
    assert "thinned to 5 : 1" in setup
    assert "cnn, vit and hybrid, train.lr (0.0003 to 0.03, evenly by its logarithm)" in setup
    assert "were searched on validation images (16 trials of each model" in setup
    assert "cnn\\_as\\_is, vit\\_as\\_is and hybrid\\_as\\_is kept their settings" in setup
    assert "from 8 seeds (0, 1, 2, 3, 4, 5, 6 and 7)" in setup
    latex = (paper.FOLDER / "checklist.tex").read_text()
    assert latex.count(r"\begin{itemize}") == latex.count(r"\end{itemize}") == len(paper.FORM)
    assert re.search(r"(?<!\\)[_%&#]", latex) is None
    assert latex.count(r"\item") == sum(map(len, paper.FORM.values())) == 21


def test_the_checklist_counts_a_trained_network_once_however_it_was_scored_and_a_probe_never(found: Found) -> None:
    first = Look("2026-01-01T00:00:00+00:00", "i", "w", "s", "t", "digits", "cnn", 0)
    before = [first, *(dataclasses.replace(first, kind=kind) for kind in ("epochs", "corruptions"))]
    before.append(dataclasses.replace(first, weights="p", kind="probe"))
    since = [dataclasses.replace(each, when="2026-03-01T00:00:00+00:00", weights="l") for each in before[:2]]
    looked = dataclasses.replace(found, earlier=Earlier([], before, since))
    assert "; 1 other trained network was scored on the test images before; 1 of other settings since" in paper.runs(
        looked
    )
    looked = dataclasses.replace(found, earlier=Earlier([], before, [dataclasses.replace(before[3], weights="q")]))
    assert paper.runs(looked).endswith("1 other trained network was scored on the test images before")


def test_a_setting_that_differs_names_the_models(found: Found) -> None:
    """What trials chose differs from model to model."""
    rates = {each.name: each.first.config["train"]["lr"] for each in found.models}
    for name, rate in rates.items():
        assert re.search(rf"{re.escape(str(rate))} \([^)]*\b{name}\b", paper.training(found)), name


def test_every_answer_names_files_that_are_there(study: Path, found: Found) -> None:
    answers = paper.checklist(found)
    said = {each.question: each for each in answers}
    sources = {name for each in answers for name in filter(None, each.source.split(", "))}
    assert [name for name in sources if not (study / name).exists()] == []
    assert all(bool(each.answer) == bool(each.source) for each in answers)
    counted = said[paper.FORM["Experimental results"]["runs"]].answer
    assert counted.startswith("48 trainings (6 models, 8 replicates), each evaluated once; 48 trainings of trials")
    assert "0 other trained networks were scored on the test images before" in counted, "as this study alone records"
    assert said[paper.FORM["Code"]["weights"]].answer.startswith("checksums of 48 trained networks")


def test_without_a_lock_weights_are_not_known(found: Found, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    weights = next(each for each in paper.checklist(found) if each.question == paper.FORM["Code"]["weights"])
    assert (weights.answer, weights.source) == ("", "")
