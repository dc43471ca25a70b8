"""What a pack holds, and what it is refused for."""

import contextlib
import hashlib
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from pipeline.anywhere import pack, refusals
from pipeline.anywhere.contents import Contents, Stored, Task
from pipeline.base import git
from pipeline.base.errors import StageError
from pipeline.base.places import CARRIED, carried_name, find
from pipeline.launch import plan
from tests import small_study, trees


def test_a_model_that_the_study_lacks_is_refused(tmp_path: Path) -> None:
    small_study.write(tmp_path, {})
    with pytest.raises(StageError, match="pack: no model cnm; choose from tiny, vit, hybrid"):
        pack.pack([tmp_path], ["tiny", "cnm"], tmp_path / "x.pyz", 10**9)


def test_a_folder_that_is_no_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"pack: nowhere: no study's folder; give one that has a params.yaml"):
        pack.pack([Path("nowhere")], [], tmp_path / "x.pyz", 10**9)


def test_studies_that_share_images_have_them_in_the_pack_once_and_each_in_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (30, 8, 8, 1), dtype=np.uint8)
    for study in ("one", "the other"):
        (tmp_path / study).mkdir()
        np.save(tmp_path / study / "images.npy", pixels)
    files = []
    for study in ("one", "the other"):
        monkeypatch.chdir(tmp_path / study)
        files.append((pack.stored(study, Path("images.npy")), tmp_path / study / "images.npy"))
    text = b'{"format": 1, "commit": "", "part": 1, "tasks": [], "files": []}'
    pack.write(tmp_path / "x.pyz", text, b"key", files)
    with zipfile.ZipFile(tmp_path / "x.pyz") as archive:
        assert sum(name.startswith("files/") for name in archive.namelist()) == 1
    opened = Contents(tmp_path / "run", "", "", 1, [], [file for file, _ in files], tmp_path / "x.pyz", b"key")
    opened.lay_out()
    for study in ("one", "the other"):
        assert (np.load(tmp_path / "run/studies" / study / "images.npy") == pixels).all()


def test_results_of_a_pack_are_taken_after_the_same_was_packed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(small_study.write(tmp_path, {}))
    monkeypatch.setenv("VERSUS_HOME", str(tmp_path))
    train = {"epochs": 1, "devices": 1, "keep_epochs": False}
    assignment = {"config": {"train": train, "network": {"pretrained": False}}}
    monkeypatch.setattr(pack, "to_train", lambda _: [Task("s", "a-0", assignment, 1, None)])
    monkeypatch.setattr(pack, "needed", lambda _: [])
    monkeypatch.setattr(pack, "code_digests", dict)
    first, again = (
        Contents.open(pack.pack([Path()], [], tmp_path / name, 10**9).path, tmp_path) for name in ("x.pyz", "y.pyz")
    )
    assert pack.known() == first.keys() == again.keys()


def test_a_damaged_pack_is_refused(tmp_path: Path) -> None:
    path = trees.put(tmp_path / "a.csv", b"rows")
    file = Stored("s", "a.csv", "files/a", False, "0" * 64)
    pack.write(tmp_path / "x.pyz", b"{}", b"key", [(file, path)])
    opened = Contents(tmp_path / "run", "", "", 1, [], [file], tmp_path / "x.pyz", b"key")
    with pytest.raises(StageError, match=r"x.pyz: a.csv is damaged; copy the pack anew"):
        opened.lay_out()


def test_weights_that_settings_name_travel_and_are_found_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = trees.put(tmp_path / "far away/weights.safetensors", b"weights")
    for given in (str(path), {"path": str(path), "sha256": "0" * 64}, True, False):
        task = Task("s", "a-0", {"config": {"network": {"pretrained": given}}}, 1, None)
        found = [(file.path, place) for file, place in pack.carried([task])]
        carried = f"{CARRIED}/{carried_name(str(path))}"
        assert found == ([] if isinstance(given, bool) else [(carried, path)])
    ((file, _),) = pack.carried([Task("s", "a-0", {"config": {"network": {"pretrained": str(path)}}}, 1, None)])
    monkeypatch.chdir(path.parent)
    beside = Task("s", "a-0", {"config": {"network": {"pretrained": path.name}}}, 1, None)
    assert next(pack.carried([beside]))[1] == path, "studies' folders are left before files are read"
    refusals.refuse_other_images([file])  # at home it is no file of the study
    there = trees.put(tmp_path / "there" / carried, b"weights")
    monkeypatch.setenv("VERSUS_CARRIED", str(there.parent))
    path.unlink()
    assert find(str(path)) == there
    assert find("other.safetensors") is None


@pytest.mark.parametrize("kind", ["trial", "finalist", "teacher"])
def test_a_study_whose_search_is_not_over_or_whose_teachers_know_nothing_is_not_packed(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else these trainings would run here, before the pack is made."""
    ran: list[tuple[str, ...]] = []
    monkeypatch.setattr(git, "dvc", lambda _, *command: ran.append(command) or True)
    monkeypatch.setattr(plan, "opened", lambda *_: contextlib.nullcontext())
    monkeypatch.setattr(plan, "to_run", lambda _, groups: groups)
    searched = plan.Group(f"{kind} a-0", [f"{kind}@a-0"], [])
    waves = [plan.Wave(["split"], [searched]), plan.Wave(["choose"], [plan.Group("a-0", ["train@a-0"], [])])]
    monkeypatch.setattr(plan, "plan", lambda _: waves)
    with pytest.raises(StageError, match=rf"pack: .* has 1 {kind} to run first, .*; run `dvc repro choose`"):
        pack.to_train([])
    assert ran == [("repro", "split")]


def test_labels_of_test_images_stay_at_home_and_other_replicates_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    travel = {"data/fit/1/train_labels.npy", "data/fit/1/info.json", "data/test/1/images.npy"}
    left = {"data/test/1/labels.npy", "data/test/1/manifest.csv", "data/fit/0/info.json", "data/test/0/images.npy"}
    for name in (*travel, *left, "data/raw/images.npy"):
        trees.put(tmp_path / name, b"")
    assert {path.as_posix() for path in pack.needed([Task("s", "a-1", {"config": {}}, 1, None)])} == travel


def test_a_student_travels_with_its_teacher_and_the_teachers_own_training_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the teacher was trained for is here already, and `dvc repro` takes it as it is."""
    train = {"teacher": "vit", "epochs": 1}
    models = {"tiny": {**small_study.MODELS["tiny"], "train": train}, "vit": small_study.MODELS["vit"]}
    monkeypatch.chdir(small_study.write(tmp_path, {"teachers": {"vit": {}}, "replicates": [0]}, models))
    for name in ("tiny-0", "vit-0"):
        trees.put(tmp_path / f"data/before/{name}/trainings.json", b'["vit-0"]')
        for file in ("config.json", "weights.safetensors"):
            trees.put(tmp_path / f"data/before/{name}/vit-0/{file}", b"learnt")
    info = dict.fromkeys(("dataset", "title", "variant", "digest"), "x") | {"classes": ["a", "b"]}
    trees.put(tmp_path / "data/fit/0/info.json", json.dumps(info).encode())
    for kind in ("images", "labels"):
        np.save(tmp_path / f"data/fit/0/train_{kind}.npy", np.zeros(4, dtype=np.int64))
    (tmp_path / "data/test/0").mkdir(parents=True)
    monkeypatch.setattr(git, "dvc", lambda *_: True)
    monkeypatch.setattr(plan, "opened", lambda *_: contextlib.nullcontext())
    monkeypatch.setattr(plan, "to_run", lambda _, groups: groups)
    groups = [plan.Group(name, [f"train@{name}"], []) for name in ("tiny-0", "vit-0")]
    monkeypatch.setattr(plan, "plan", lambda _: [plan.Wave([], groups)])
    (task,) = pack.to_train([])
    assert (task.name, task.assignment["config"]["teachers"]) == ("tiny-0", {"vit-0": sha256_of(b"learnt")})
    travel = {path.as_posix() for path in pack.needed([task]) if path.parts[1] == "before"}
    assert travel == {f"data/before/tiny-0/vit-0/{file}" for file in ("config.json", "weights.safetensors")}
    refusals.refuse_other_settings([task])
    trees.put(tmp_path / "data/before/tiny-0/vit-0/weights.safetensors", b"learnt more since")
    with pytest.raises(StageError, match=r"tiny-0: other settings than those packed \(teachers\)"):
        refusals.refuse_other_settings([task])


def sha256_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
