"""The report says who was taught by whom, and a student's training costs what its teacher's did, too."""

import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.params.read import load_params
from pipeline.report import cards, results
from pipeline.report.found import Found
from pipeline.report.sections import comparison, compute, training
from tests import fake_study


def found(folder: Path, monkeypatch: pytest.MonkeyPatch, which: str) -> Found:
    """Of a study whose vit was taught by its cnn, in two replicates."""
    train = {"teacher": "cnn", "teacher_replicates": which, "teacher_temperature": 4.0, "teacher_weight": 0.9}
    fake_study.write(folder, models=("cnn", "vit"), replicates=(0, 1), epochs=3, overrides={"vit": train})
    with (folder / "params.yaml").open("a") as file:
        file.write("teachers: {cnn: {}}\n")
    monkeypatch.chdir(folder)
    return results.read(load_params())


def seconds(folder: Path, model: str) -> list[float]:
    paths = [folder / f"reports/evaluations/{model}-{replicate}.json" for replicate in (0, 1)]
    return [json.loads(path.read_text())["cost"]["train_seconds"] for path in paths]


@pytest.mark.parametrize(
    ("which", "words", "times"),
    [("same", "its replicate of the same number", 1), ("all", "all its replicates together", 2)],
)
def test_a_student_has_the_time_of_its_teachers_and_the_report_says_whose(
    which: str, words: str, times: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = found(tmp_path, monkeypatch, which)
    cnn, vit = study.models
    assert cnn.mean_train_seconds == pytest.approx(np.mean(seconds(tmp_path, "cnn")))
    assert vit.mean_train_seconds == pytest.approx(
        np.mean(seconds(tmp_path, "vit")) + times * np.mean(seconds(tmp_path, "cnn"))
    )
    told = f"by cnn, {words} (weight 0.9, temperature 4)"
    assert training.section(study).words["taught"] == {"vit": told}
    assert "Training time includes that of teachers: of vit that of cnn." in comparison.caption(study)
    assert f"Taught {told}, whose answers it learnt beside the labels." in cards.card(vit, study).replace("\\", "")
    assert f"and {vit.teacher_seconds:.1f} s of its teachers" in cards.card(vit, study)
    assert "Taught" not in cards.card(cnn, study)


def test_at_equal_time_a_student_begins_when_its_teacher_has_learnt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cheapest takes its teacher's time alone, in which no student gets through an epoch; no FLOPs."""
    study = found(tmp_path, monkeypatch, "same")
    made = compute.section(study)
    rows = made.tables[0].frame.set_index("model")
    cnn, vit = study.models
    assert rows["train_seconds"].to_list() == pytest.approx([cnn.mean_train_seconds, vit.mean_train_seconds])
    assert np.isnan(rows.loc["vit", ["at_equal_seconds", "train_flops", "train_images"]].astype(float)).all()
    assert [column for column in rows if column.startswith("at_equal")] == [
        f"at_equal_seconds{end}" for end in ("", "_low", "_high")
    ]
    assert "begins with the training of their teachers" in made.tables[0].caption
    drawn = compute.curves(study, {model.name: compute.costs_of(model, study.data) for model in study.models})
    first = drawn[drawn["model"] == "vit"]["seconds"].min()
    assert first == pytest.approx(vit.teacher_seconds + np.mean(vit.train_seconds) / 3)
    assert compute.best_within(np.array([0.5, 0.7, 0.9]), 100, 70, before=40) == 0.5  # of three of 20 each one
    assert np.isnan(compute.best_within(np.array([0.5, 0.7, 0.9]), 100, 30, before=40))


def test_without_a_teacher_nobody_speaks_of_any(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(fake_study.write(tmp_path, models=("cnn", "vit"), replicates=(0, 1), epochs=3))
    study = results.read(load_params())
    assert training.section(study).words["taught"] == {}
    assert "teach" not in comparison.caption(study)
    assert not any(model.teacher_seconds for model in study.models)
