"""A teacher is trained before its students, once; they learn its answers, and nothing else changes for anybody."""

import contextlib
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.base.errors import StageError
from pipeline.base.files import sha256
from pipeline.inference import loading
from pipeline.params.read import load_params
from pipeline.stages import check, choose, fetch, split
from pipeline.stages.train import train
from pipeline.tracking import runs
from pipeline.training import teachers
from pipeline.training.timing import prepared
from tests import small_study

LAYERS = {"family": "tiny", "layers": ["conv 8, pool"]}
TAUGHT = {"teacher": "big", "teacher_temperature": 4.0, "epochs": 2}
MODELS: dict[str, dict[str, Any]] = {
    "small": {**LAYERS, "train": TAUGHT},
    "by_all": {**LAYERS, "train": {**TAUGHT, "teacher_replicates": "all"}},
    "big": {"family": "tiny", "layers": ["conv 16, pool", "conv 16"], "train": {"lr": 0.02}},
    "alone": {**LAYERS, "train": {"epochs": 2}},
}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All of it, in the order in which DVC runs the stages; a student was begun before its teacher had learnt."""
    folder = tmp_path_factory.mktemp("taught")
    small_study.write(folder, {"teachers": {"big": {}}, "dataset.imbalance": 1}, MODELS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for opened in ("data_run", "training_run"):
            patch.setattr(runs, opened, lambda *_: contextlib.nullcontext(small_study.Untracked()))
        check.main()
        fetch.main()
        split.main()
        with pytest.raises(StageError, match=r"data/before/small-0: no teacher there, .*; run `dvc repro choose`"):
            train("small", 0)
        for replicate in (0, 1):
            train("big", replicate, teaches=True)
        choose.main()
        for name in ("big", "small", "by_all", "alone"):
            train(name, 0)
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def config(study: Path, name: str) -> dict[str, Any]:
    return json.loads((study / f"models/{name}/config.json").read_text())


def test_a_teachers_own_training_is_taken_as_it_is(study: Path) -> None:
    assert content(study / "models/big-0") == content(study / "data/teachers/big-0")
    history = (study / "reports/histories/big-0.csv").read_bytes()
    assert history == (study / "data/teachers/big-0.csv").read_bytes()


def test_a_student_gets_no_more_of_its_teacher_than_settings_and_weights(study: Path) -> None:
    """Of other replicates only where all teach; a teacher that is trained again to the same weights changes nothing."""
    given = {path.parent.relative_to(study / "data/before").as_posix() for path in study.glob("data/before/*/*/*")}
    assert given == {"big-0/big-0", "big-1/big-1", "small-0/big-0", "small-1/big-1"} | {
        f"by_all-{student}/big-{teacher}" for student in (0, 1) for teacher in (0, 1)
    }
    assert set(content(study / "data/before/small-0/big-0")) == {"config.json", "weights.safetensors"}


def test_a_training_knows_who_taught_it(study: Path) -> None:
    """By the teacher's weights: with others it is another training, which goes on from no state of this one."""
    weights = {f"big-{number}": sha256(study / f"data/teachers/big-{number}/weights.safetensors") for number in (0, 1)}
    assert config(study, "small-0")["teachers"] == {"big-0": weights["big-0"]}
    assert config(study, "by_all-0")["teachers"] == weights
    assert {key: config(study, "small-0")["train"][key] for key in TAUGHT} == TAUGHT


def test_a_teacher_changes_what_is_learnt(study: Path) -> None:
    learnt = {sha256(study / f"models/{name}-0/weights.safetensors") for name in ("small", "by_all", "alone")}
    assert len(learnt) == 3


def test_a_training_without_a_teacher_is_as_if_there_were_none(study: Path) -> None:
    """Its settings, and so its fingerprint, do not have the keys."""
    assert not [
        key for name in ("alone", "big") for key in str(config(study, f"{name}-0")).split("'") if "teach" in key
    ]
    assert json.loads((study / "data/before/alone-0/trainings.json").read_text()) == []


def test_the_same_student_again_is_the_same_to_the_byte(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its state is kept until it is evaluated; without it every step is taken again."""
    before = content(study / "models/small-0")
    monkeypatch.chdir(study)
    monkeypatch.setattr(runs, "training_run", lambda *_: contextlib.nullcontext(small_study.Untracked()))
    monkeypatch.setenv("VERSUS_HOME", str(study / "elsewhere"))
    train("small", 0)
    after = content(study / "models/small-0")
    assert {name for name in before if before[name] != after[name]} == {"run.json"}  # when, and how long


def test_a_teacher_that_wants_other_images_or_knows_other_classes_is_refused(study: Path) -> None:
    """Settings are compared before; this holds for what they do not tell."""
    folder, ours = study / "data/teachers/big-0", config(study, "small-0")
    form = dataclasses.replace(loading.image_format(ours), views=10)  # in testing, where no teacher looks
    assert len(teachers.load([folder], ours["classes"], form)) == 1
    with pytest.raises(StageError, match=r"train: the teacher big-0 knows other classes than its student"):
        teachers.load([folder], ours["classes"][::-1], form)
    with pytest.raises(StageError, match=r"train: the teacher big-0 knows other images than its student"):
        teachers.load([folder], ours["classes"], dataclasses.replace(form, whole=24))


def test_an_estimate_has_the_teachers_in_it(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(study)
    monkeypatch.setattr("pipeline.records.before.BEFORE", study / "nothing yet")
    assert [len(prepared(load_params(), name)[0].teachers) for name in MODELS] == [1, 2, 0, 0]
