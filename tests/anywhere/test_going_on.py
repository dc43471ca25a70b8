"""A training goes on from the furthest that there is, whatever the order of what is named, and says what it lacks.

Over several sessions, no result replaces one that has more, and nothing that is not the pack's.
"""

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.anywhere import app, results, worker
from pipeline.anywhere.contents import Contents, Task, epochs_told
from pipeline.anywhere.worker import Notes
from pipeline.base.errors import StageError
from pipeline.inference import forward, loading
from tests import trees

STATE, OTHER = (".versus/resume/" + letter * 32 for letter in "ab")
TASK = Task("s", "cnn-0", {"config": {"train": {"epochs": 50, "devices": 1, "keep_epochs": False}}}, 100, None)


def contents(folder: Path) -> Contents:
    return Contents(folder, "p" * 64, "", 1, [TASK], [], folder / "x.pyz", b"key")


def begun(folder: Path, epochs: int, place: str = STATE) -> Contents:
    """A folder in which the training was ended after some epochs."""
    state = folder / "studies/s" / place
    trees.put(state / "state.pt", f"state of {epochs}".encode())
    trees.put(state / "about.json", b'{"training": "cnn-0"}')
    notes = (json.dumps({"time": 1.0 + step, "step": step, "values": {}}) + "\n" for step in range(epochs + 1))
    trees.put(state / "told.jsonl", "".join(notes).encode())
    return contents(folder)


def written(here: Contents, out: Path, part: int = 10**6) -> list[Path]:
    return here.write_result(out, part, [{"name": "s/cnn-0", "state": "begun", "reason": ""}], {})


def result(folder: Path, epochs: int, part: int = 10**6) -> list[Path]:
    return written(begun(folder, epochs), folder / f"day-{epochs}.zip", part)


def done(folder: Path) -> Contents:
    """A folder in which the training has ended."""
    trees.put(folder / "studies/s/models/cnn-0/weights.safetensors", bytes(range(256)) * 80)
    trees.put(folder / "studies/s/data/logits/cnn-0.npy", b"logits")
    return contents(folder)


def state(folder: Path, place: str = STATE) -> str:
    return (folder / "studies/s" / place / "state.pt").read_text()


@pytest.mark.parametrize("here", [None, 2, 30])
def test_of_several_results_and_what_is_here_the_furthest_is_gone_on_from(here: int | None, tmp_path: Path) -> None:
    parts = [path for epochs in (9, 40, 11) for path in result(tmp_path / str(epochs), epochs)]
    there = contents(tmp_path / "there") if here is None else begun(tmp_path / "there", here)
    there.take(results.read(parts, there.keys()))
    assert state(tmp_path / "there") == "state of 40"
    there.take(results.read(parts[:1], there.keys()))
    assert state(tmp_path / "there") == "state of 40"


def test_a_result_that_lacks_a_part_is_said_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trees.put(tmp_path / "9/studies/s" / STATE / "epochs/0001.safetensors", bytes(range(256)) * 80)
    first, *others = result(tmp_path / "9", 9, part=9000)
    assert others
    there, out = contents(tmp_path / "there"), tmp_path / "results.zip"
    app.go_on(there, [first], out)
    assert "--from: of 1 training (s/cnn-0) files are in parts that were not named" in capsys.readouterr().out
    assert not (tmp_path / "there/studies/s" / STATE).exists()
    app.go_on(there, [first, *others], out)
    assert capsys.readouterr().out == ""
    assert state(tmp_path / "there") == "state of 9"


# The same --out, again and again


@pytest.fixture
def parts(tmp_path: Path) -> list[Path]:
    """The parts of a result whose training has ended, on a machine that is gone."""
    found = written(done(tmp_path / "gone"), tmp_path / "results.zip", 9000)
    assert len(found) > 2
    return found


def kept(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.zip")}


@pytest.mark.parametrize("named", [0, 1, 2])
def test_what_lies_at_out_is_gone_on_from_however_much_of_it_is_named(
    named: int, parts: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = contents(tmp_path / "there")
    app.go_on(there, parts[:named], parts[0])
    written(there, parts[0])
    (found,) = results.read([parts[0]], there.keys())
    assert {file.kind for file in found.manifest.files} == {"logits", "weights"}
    assert list(kept(tmp_path)) == ["results.zip"]
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("stayed", [0, 1, -1])
def test_a_result_is_not_replaced_whose_other_parts_are_elsewhere(
    stayed: int, parts: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "elsewhere").mkdir()
    elsewhere = shutil.move(parts[stayed], tmp_path / "elsewhere")
    before, here = kept(tmp_path), begun(tmp_path / "there", 9)
    message = "has more of s/cnn-0 than there is here; give all parts of that result to --from, or name another --out"
    with pytest.raises(StageError, match=re.escape(message)) as fault:
        app.go_on(here, [], parts[0])
    assert "\n" not in str(fault.value)
    with pytest.raises(StageError, match=re.escape(message)):
        written(here, parts[0])
    assert kept(tmp_path) == before
    app.go_on(here, [], tmp_path / "other.zip")
    app.go_on(here, [Path(elsewhere)], parts[0])
    assert here.is_done(TASK)
    assert capsys.readouterr().out == ""


def test_one_that_was_killed_while_it_wrote_goes_on(tmp_path: Path) -> None:
    """Parts of the new result then lie beside parts of the old one, and neither is whole."""
    out = tmp_path / "results.zip"
    for epochs, part in ((9, 9000), (12, 7000)):
        here = begun(tmp_path / "here", epochs)
        trees.put(tmp_path / "here/studies/s" / STATE / f"epochs/{epochs:04d}.safetensors", bytes(range(256)) * 80)
        old = kept(tmp_path)
        written(here, out, part)
    for name in ("results-2.zip", "results-3.zip"):
        (tmp_path / name).write_bytes(old[name])
    app.go_on(here, [], out)
    app.go_on(begun(tmp_path / "here", 13), [], out)
    assert written(here, out) == [out]
    assert list(kept(tmp_path)) == ["results.zip"]
    assert state(tmp_path / "here") == "state of 13"


def test_a_result_of_another_pack_that_came_meanwhile_stays(parts: list[Path], tmp_path: Path) -> None:
    other = Contents(tmp_path / "here", "q" * 64, "", 1, [TASK], [], tmp_path / "y.pyz", b"another key")
    before = kept(tmp_path)
    for refused in (lambda: written(other, parts[0]), lambda: app.go_on(other, [], parts[0])):
        with pytest.raises(StageError, match="is no result of this pack, or damaged, and would be replaced"):
            refused()
    assert kept(tmp_path) == before


# What is noted of a training


def test_what_began_on_two_kinds_of_device_goes_on_on_each(tmp_path: Path) -> None:
    begun(tmp_path / "here", 40)
    begun(tmp_path / "here", 3, OTHER)
    parts = result(tmp_path / "here", 40)
    there = contents(tmp_path / "there")
    there.take(results.read(parts, there.keys()))
    assert [state(tmp_path / "there", place) for place in (STATE, OTHER)] == ["state of 40", "state of 3"]


def test_notes_of_one_kind_of_device_are_there_after_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`versus unpack` refuses a training some of whose epochs are not told of."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VERSUS_HOME", str(tmp_path))
    for device, known, steps in (("a", "", range(1, 5)), ("b", "", range(1, 3)), ("a", "a", range(5, 7))):
        with worker.opened("cnn-0", device * 64, {}, known * 64) as notes:
            for step in steps:
                notes.later({}, step)
    assert list(epochs_told(tmp_path / "told/cnn-0.jsonl")) == [1, 2, 3, 4, 5, 6]


def told(path: Path, *steps: int) -> Notes:
    notes = Notes(path, "key")
    for step in steps:
        notes.later({}, step)
    return notes


def test_a_line_that_was_cut_ends_no_training(tmp_path: Path) -> None:
    path = tmp_path / "cnn-0.jsonl"
    told(path, 0, 1, 2)
    path.write_text(path.read_text()[:-9])
    assert list(epochs_told(path)) == [1]
    told(path, 2, 3)
    assert list(epochs_told(path)) == [1, 2, 3]


def test_a_full_disk_costs_no_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "cnn-0.jsonl"
    notes = told(path, 0, 1)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(worker, "written_whole", full)
        notes.later({}, 2)
    notes.later({}, 3)
    assert list(epochs_told(path)) == [1, 2, 3]


def test_a_training_counts_as_done_once_all_its_logits_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the two, it would be scored without those of one view."""
    config: Mapping[str, object] = {"replicate": 0, "train": {"device": "cpu", "batch_size": 4}}
    trees.put(tmp_path / "data/test/0/images.npy", b"")
    np.save(tmp_path / "data/test/0/images.npy", np.zeros((2, 4, 4, 1), np.uint8))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(loading, "load", lambda _: (torch.nn.Identity(), config))
    monkeypatch.setattr(loading, "image_format", lambda _: None)
    monkeypatch.setattr(forward, "of_views", lambda *_: (torch.ones(2, 3), torch.zeros(2, 3)))
    written: list[str] = []
    monkeypatch.setattr(np, "save", lambda file, _: written.append(Path(file.name).name))
    worker.leave_logits(Path("models/cnn-0"))
    assert [name.split(".npy")[0] for name in written] == [".cnn-0.first", ".cnn-0"]
