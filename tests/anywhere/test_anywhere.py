"""Trained where there is no DVC, killed, gone on with elsewhere, brought home: what `dvc repro` gives, to the last bit.

The Python there is a virtual environment with what a pack asks for, and nothing else.
"""

import contextlib
import dataclasses
import hashlib
import html
import json
import math
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import time
import types
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from ruamel.yaml import YAML

from pipeline.anywhere import results
from pipeline.anywhere.contents import Contents, environment
from pipeline.anywhere.pack import pack
from pipeline.anywhere.results import MANIFEST, SEAL
from pipeline.anywhere.unpack import unpack
from pipeline.base.errors import PASSING, StageError
from pipeline.training import resume
from tests import repo, small_study, trees
from tests.anywhere import bare
from tests.launch.test_launch import trained
from tests.test_docs import code_cells
from tests.test_study import contents

EPOCHS = {"quick": 2, "slow": 150}
NAMES = [f"{name}-0" for name in EPOCHS]
PYTHON = (sys.executable, "-W", "ignore")


@dataclasses.dataclass(frozen=True)
class Machine:
    """A folder to work in, on a machine where little is installed and whose user has an empty home."""

    above: Path
    python: Path

    @classmethod
    def new(cls, above: Path, python: Path, pack: Path) -> "Machine":
        for name in ("home", "work"):
            (above / name).mkdir(parents=True)
        shutil.copy(pack, above / "work")
        return cls(above, python)

    @property
    def work(self) -> Path:
        return self.above / "work"

    @property
    def environment(self) -> dict[str, str]:
        kept = {key: os.environ[key] for key in ("PATH", "LANG") if key in os.environ}
        return {**kept, "HOME": str(self.above / "home"), "OMP_NUM_THREADS": "1"}

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [self.python, "-W", "ignore", "trainings.pyz", *words],
            cwd=self.work,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *words: str, status: int = 0) -> str:
        process = self.start(*words)
        said, _ = process.communicate(timeout=600)
        assert process.returncode == status, said
        return said

    def ended(self, number: signal.Signals, epochs: int, *words: str) -> tuple[int, str]:
        """Start, send a signal to all processes once so many epochs of the longer training are done: status, words."""
        process, due = self.start(*words), time.monotonic() + 200
        while self.epochs("slow-0") < epochs:
            assert time.monotonic() < due
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        (os.killpg if number == signal.SIGKILL else os.kill)(process.pid, number)
        said, _ = process.communicate(timeout=100)
        return process.returncode, said

    def results(self) -> list[Path]:
        return sorted(self.work.glob("results*.zip"), key=lambda path: (len(path.name), path.name))

    def epochs(self, name: str) -> int:
        with contextlib.suppress(FileNotFoundError):
            return (self.work / f"trainings.run/studies/digits/told/{name}.jsonl").read_text().count("\n") - 1
        return 0


def versus(folder: Path, *words: str, fails: bool = False) -> str:
    command = [*PYTHON, "-m", "pipeline.cli", *words]
    return repo.call(folder, *command, fails=fails, PYTHONPATH=str(folder), OMP_NUM_THREADS="1")


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bare.python(tmp_path_factory.mktemp("bare"))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout of two networks that are alike, one of which trains for longer; packed."""
    folder = repo.copy(tmp_path_factory.mktemp("home"))
    path, layers = folder / "params.yaml", {"family": "tiny", "layers": ["conv 8, pool, conv 12, pool, conv 12"]}
    content = YAML().load(path.read_text())
    content["models"] = {name: {**small_study.BASE, **layers, "train": {"epochs": n}} for name, n in EPOCHS.items()}
    trees.put_settings(content, small_study.SETTINGS | {"replicates": [0], "evaluate.onnx": False})
    with path.open("w") as file:
        YAML().dump(content, file)
    repo.commit(folder)
    said = versus(folder, "pack", "--part", "32k")
    assert "trainings.pyz: 2 trainings" in said
    repo.commit(folder)
    return folder


@pytest.fixture(scope="module")
def oracle(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same checkout, trained and scored by DVC."""
    folder = tmp_path_factory.mktemp("oracle") / "checkout"
    shutil.copytree(home, folder, symlinks=True)
    repo.call(folder, "dvc", "repro", *[f"evaluate@{name}" for name in NAMES], OMP_NUM_THREADS="1")
    return folder


@pytest.fixture(scope="module")
def parts(home: Path, python: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The parts of a result: killed, out of time, asked to end elsewhere, and ended there."""
    one, other = (
        Machine.new(tmp_path_factory.mktemp(name), python, home / "trainings.pyz") for name in ("one", "other")
    )
    status, _ = one.ended(signal.SIGKILL, 3, "--workers", "1", "--threads", "1")
    assert status == -signal.SIGKILL

    began = time.monotonic()
    said = one.run("--time", "16", "--threads", "1", "--workers", "1", "--out", "first.zip", "--part", "1G")
    assert time.monotonic() - began < 16
    assert "time is up" in said or "out of time" in said
    assert "begun" in said.splitlines()[-3]
    epochs = one.epochs("slow-0")
    assert 3 <= epochs < EPOCHS["slow"]  # on a busy machine no more is done in that time
    assert list((one.above / "home").iterdir()) == []
    assert {path.name for path in one.work.iterdir()} == {"trainings.pyz", "trainings.run", "first.zip"}

    shutil.move(one.work / "first.zip", other.work)
    status, said = other.ended(signal.SIGTERM, epochs + 1, "--from", "first.zip", "--threads", "1")
    assert status == 130, said
    assert "interrupted; what there is, is written" in said
    (result,) = results.read(other.results(), None)
    assert {each["name"]: each["state"] for each in result.manifest.trainings}["digits/slow-0"] == "begun"

    assert "2 done" in other.run("--threads", "1")
    log = (other.work / "trainings.run/studies/digits/logs/slow-0.txt").read_text()
    assert log.count("goes on after epoch") == 2
    assert list((other.above / "home").iterdir()) == []
    assert {path.name for path in other.above.iterdir()} == {"home", "work"}
    return other.results()


def test_a_part_is_as_small_as_was_asked_for_and_weights_come_last(parts: list[Path]) -> None:
    assert len(parts) > 1
    assert max(path.stat().st_size for path in parts) <= 32_000
    (result,) = results.read(parts, None)
    kinds = [file.kind for file in result.manifest.files]
    assert kinds == sorted(kinds, key=["notes", "logits", "weights", "state"].index)
    assert {file.kind for file in result.manifest.files} == {"notes", "logits", "weights"}


def test_it_says_what_it_is_and_in_one_line_what_it_cannot_do(home: Path, python: Path, tmp_path: Path) -> None:
    machine = Machine.new(tmp_path, python, home / "trainings.pyz")
    trees.put(machine.work / "trainings.run/pack", b"another")
    assert "is not of this pack; move it away" in machine.run(status=1)
    shutil.rmtree(machine.work / "trainings.run")
    assert "then, at home:\n  versus unpack results*.zip" in machine.run("--help")
    assert machine.run("--part", "9k", status=1).startswith("versus: --part: 9000 bytes hold little more than")
    mine = trees.put(machine.work / "results-2.zip", b"mine")
    said = machine.run(status=1)
    assert said.startswith("versus: --out: results-2.zip is no result of this pack, or damaged, and would be replaced;")
    assert (said.count("\n"), mine.read_bytes()) == (1, b"mine")
    if not torch.cuda.is_available():
        said = machine.run("--bench", status=1)
        assert said.startswith("versus: make bench-gpu needs a CUDA GPU, and this machine has none")
        assert said.count("\n") == 1
    small = "dataclasses.replace(gpu.MNIST, batches=1, batch_size=8)"
    script = f"import dataclasses; from benchmarks import gpu; print(gpu.trainer({small}, gpu.places.cores())(0))"
    command, package = [python, "-c", script], machine.work / "trainings.run/package"
    done = subprocess.run(command, cwd=package, env=machine.environment, capture_output=True, text=True, check=False)
    assert re.fullmatch("[0-9a-f]{64}\n", done.stdout), done.stderr


def test_a_training_in_several_processes_ends_in_time_and_goes_on(home: Path, tmp_path: Path) -> None:
    contents = Contents.open(home / "trainings.pyz", tmp_path / "run")
    contents.lay_out()
    (task,) = (task for task in contents.tasks if task.name == "quick-0")
    config = task.assignment["config"]
    shared = {**config, "train": {**config["train"], "devices": 2}}
    task = dataclasses.replace(task, assignment={**task.assignment, "config": shared})
    study = contents.study(task.study)
    given = {**environment(tmp_path / "run", study, 1), "PYTHONPATH": str(trees.ROOT)}
    for until, status, said in ((0.0, PASSING, resume.LATE), (math.inf, 0, "goes on after epoch 1 of 2")):
        command = [*PYTHON, "-m", "pipeline.anywhere.worker", contents.task_file(task, until).as_posix()]
        done = subprocess.run(command, cwd=study, env=given, capture_output=True, text=True, check=False)
        assert done.returncode == status, done.stderr
        assert said in done.stdout + done.stderr
    assert contents.is_done(task)


@pytest.mark.parametrize("name", ["kaggle", "colab"])
def test_a_notebook_goes_from_the_pack_to_the_results(
    name: str,
    home: Path,
    python: Path,
    parts: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """With the results of an earlier session, so that there is nothing left to train."""
    machine, given, fetched = (
        Machine.new(tmp_path, python, home / "trainings.pyz"),
        [home / "trainings.pyz", *parts],
        [],
    )
    colab = types.SimpleNamespace(
        upload=lambda: [shutil.copy(path, machine.work) for path in given], download=lambda path: fetched.append(path)
    )
    monkeypatch.setitem(sys.modules, "google.colab", types.SimpleNamespace(files=colab))
    (tmp_path / "input").mkdir()
    for path in given:
        shutil.copy(path, tmp_path / "input")
    monkeypatch.chdir(machine.work)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setenv("HOME", machine.environment["HOME"])
    monkeypatch.delenv("PYTHONPATH", raising=False)
    names: dict = {}
    cells = code_cells(trees.ROOT / f"notebooks/{name}.ipynb")
    assert len(cells) == 3
    for cell in cells:
        exec(cell.replace("/kaggle/input", str(tmp_path / "input")), names)
    said, found = capfd.readouterr().out, machine.results()
    assert f"torch {torch.__version__.split('+')[0]}" in said
    assert torch.cuda.is_available() or "no GPU" in said
    for each in NAMES:
        assert f"digits/{each}: runs" in said
    (result,) = results.read(found, None)
    assert [each["state"] for each in result.manifest.trainings] == ["done", "done"]
    assert result.manifest.files == results.read(parts, None)[0].manifest.files
    assert fetched == (sorted(path.name for path in found) if name == "colab" else [])


# What is refused, before anything is written


@pytest.fixture
def here(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The checkout as the current folder, in which nothing may have changed at the end."""
    monkeypatch.chdir(home)
    before = kept(home)
    yield home
    assert kept(home) == before


def kept(folder: Path) -> dict[str, str]:
    """What a user keeps: the files but for what DVC, git and Python note for themselves."""
    found = contents(folder)
    own = (".dvc/tmp", ".git/", ".versus/")
    return {name: digest for name, digest in found.items() if not name.startswith(own) and "__pycache__" not in name}


def rewritten(parts: list[Path], folder: Path, change: Callable[[dict[str, bytes]], None]) -> list[Path]:
    """Parts whose entries somebody has changed."""
    found = []
    for part in parts:
        with zipfile.ZipFile(part) as archive:
            entries = {name: archive.read(name) for name in archive.namelist()}
        change(entries)
        with zipfile.ZipFile(folder / part.name, "w") as archive:
            for name, content in entries.items():
                archive.writestr(name, content)
        found.append(folder / part.name)
    return found


def listed(parts: list[Path], path: str) -> results.File:
    return next(file for file in results.read(parts, None)[0].manifest.files if file.path == path)


@pytest.mark.usefixtures("here")
def test_a_changed_history_is_refused(parts: list[Path], tmp_path: Path) -> None:
    history = listed(parts, "reports/histories/slow-0.csv")

    def change(entries: dict[str, bytes]) -> None:
        name = f"{history.sha256}/0"
        if name in entries:
            entries[name] = entries[name].replace(b"1", b"2", 1)

    with pytest.raises(StageError, match=r"slow-0: reports/histories/slow-0.csv is damaged; fetch the result anew"):
        unpack(rewritten(parts, tmp_path, change))


@pytest.mark.usefixtures("here")
def test_one_whose_digest_was_changed_too_is_refused(parts: list[Path], tmp_path: Path) -> None:
    digest = listed(parts, "reports/histories/slow-0.csv").sha256

    def change(entries: dict[str, bytes]) -> None:
        entries[MANIFEST] = entries[MANIFEST].replace(digest.encode(), digest[::-1].encode())
        if content := entries.pop(f"{digest}/0", None):
            entries[f"{digest[::-1]}/0"] = content

    with pytest.raises(StageError, match=r"changed or forged on its way; refused"):
        unpack(rewritten(parts, tmp_path, change))


def forged(parts: list[Path], folder: Path, path: str, content: bytes, pyz: Path) -> list[Path]:
    """Parts in which a file has another content, by somebody who has the pack, and so its key."""
    key, old, new = zipfile.ZipFile(pyz).read("pack.key"), listed(parts, path), hashlib.sha256(content).hexdigest()

    def change(entries: dict[str, bytes]) -> None:
        listing = json.loads(entries[MANIFEST])
        for file in listing["files"]:
            if file["path"] == path:
                file |= {"sha256": new, "size": len(content)}
        for name in [name for name in entries if name.startswith((old.sha256, new))]:
            del entries[name]
        entries |= {MANIFEST: json.dumps(listing).encode(), f"{new}/0": content}
        entries[SEAL] = results.seal(entries[MANIFEST], key).encode()

    return rewritten(parts, folder, change)


def header_of(tensors: dict[str, dict]) -> bytes:
    """A safetensors file of a header alone."""
    text = json.dumps(tensors).encode()
    return struct.pack("<Q", len(text)) + text


def npy_of(shape: str) -> bytes:
    """A .npy file of a header alone."""
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


BEHIND_THE_END = {"conv.weight": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}
NO_RUN = b'{"key": "x\' or 1", "mlflow_run": "", "commit": "", "started": "", "seconds": 1}'
FORGED = {
    "models/slow-0/weights.safetensors": (header_of(BEHIND_THE_END), "its weights are none of the network that was"),
    "models/slow-0/config.json": (
        b'{"network": {"pretrained": "/etc/passwd"}}',
        "its config.json is not what was packed",
    ),
    "data/logits/slow-0.npy": (npy_of("(1000000000000, 10)"), "slow-0.npy is no array of 360 x 10 logits"),
    "models/slow-0/val_logits.npy": (b"\x80\x04cos\nsystem\n", "val_logits.npy is no array of"),
    "models/slow-0/run.json": (NO_RUN, "its run.json is not of the training that was packed"),
    "reports/histories/slow-0.csv": (b"epoch,val_macro_f1\n1,much\n", "its history is not that of its run.json"),
    "told/slow-0.jsonl": (b'{"time": 1e400, "step": 0, "values": {}}\n', "what it said of its epochs is no such list"),
}


@pytest.mark.parametrize("path", FORGED)
def test_one_by_somebody_who_has_the_pack_is_refused(path: str, here: Path, parts: list[Path], tmp_path: Path) -> None:
    content, message = FORGED[path]
    with pytest.raises(StageError, match=re.escape(message)) as fault:
        unpack(forged(parts, tmp_path, path, content, here / "trainings.pyz"))
    assert "\n" not in str(fault.value)


def test_a_diary_of_other_settings_is_refused(here: Path, parts: list[Path], tmp_path: Path) -> None:
    (result,) = results.read(parts, None)
    result.copy(listed(parts, path := "models/slow-0/run.json"), tmp_path / "run.json")
    diary = json.loads((tmp_path / "run.json").read_text())
    diary["machine"]["threads"] += 1  # of which its fingerprint knows
    with pytest.raises(StageError, match=r"its run.json is not of the training that was packed; refused"):
        unpack(forged(parts, tmp_path, path, json.dumps(diary).encode(), here / "trainings.pyz"))


def test_weights_of_another_training_are_refused(here: Path, parts: list[Path], tmp_path: Path) -> None:
    (result,) = results.read(parts, None)
    result.copy(listed(parts, "models/quick-0/weights.safetensors"), tmp_path / "other")
    other = (tmp_path / "other").read_bytes()
    with pytest.raises(StageError, match=r"digits/slow-0: its weights do not give its logits; refused"):
        unpack(forged(parts, tmp_path, "models/slow-0/weights.safetensors", other, here / "trainings.pyz"))


@pytest.mark.usefixtures("here")
def test_a_result_that_was_cut_short_is_refused(parts: list[Path], tmp_path: Path) -> None:
    short = trees.put(tmp_path / "results.zip", parts[0].read_bytes()[:-1000])
    with pytest.raises(StageError, match=r"results.zip: no result of a pack, or damaged or cut short; fetch it anew"):
        unpack([short, *parts[1:]])


def test_a_result_of_a_pack_of_another_checkout_is_refused(
    parts: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StageError, match="of a pack that was not made in this checkout; unpack where it was packed"):
        unpack(parts)


@contextlib.contextmanager
def changed(path: Path, content: bytes) -> Iterator[None]:
    before = path.read_bytes()
    path.write_bytes(content)
    yield
    path.write_bytes(before)


def test_a_result_of_other_settings_is_refused(here: Path, parts: list[Path]) -> None:
    text = (here / "params.yaml").read_text().replace("epochs: 150", "epochs: 151")
    with (
        changed(here / "params.yaml", text.encode()),
        pytest.raises(StageError, match=r"digits/slow-0: other settings than those packed \(overrides, train\)"),
    ):
        unpack(parts)


def test_a_result_of_other_images_is_refused(here: Path, parts: list[Path]) -> None:
    path = here / "data/test/0/images.npy"
    pixels = np.load(path)
    with (
        changed(path, path.read_bytes()[:-1] + bytes([255 - int(pixels[-1, -1, -1, -1])])),
        pytest.raises(StageError, match=r"data/test/0/images.npy is not what was packed; run `dvc repro split`"),
    ):
        unpack(parts)


def test_a_result_of_other_code_is_refused(here: Path, parts: list[Path]) -> None:
    path = here / "pipeline/training/step.py"
    with changed(path, path.read_bytes() + b"\nchanged = True\n"):
        said = versus(here, "unpack", *map(str, parts), fails=True)
    assert said.startswith("versus: unpack: train's code is not what was packed (commit")
    assert said.count("\n") == 1


# What is taken


@pytest.mark.usefixtures("here")
def test_scores_are_told_of_a_training_whose_weights_stayed_there(
    parts: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    (whole,) = results.read(parts, None)
    found = [part for part in parts if results.read([part], None)[0].has(listed(parts, "models/quick-0/run.json"))]
    found = [part for part in parts if part not in parts[-2:]]
    (some,) = results.read(found, None)
    assert not some.has(listed(parts, "models/slow-0/weights.safetensors"))
    assert unpack(found) > 0, "trainings that DVC would still run here"
    said = capsys.readouterr().out
    assert "digits/slow-0: trained, validation macro-F1 0." in said
    assert "test accuracy 0." in said
    assert "not recorded, for its weights stayed there" in said
    assert whole.manifest == some.manifest


@pytest.fixture(scope="module")
def unpacked(home: Path, parts: list[Path]) -> Path:
    """The checkout with the result."""
    versus(home, "unpack", *map(str, parts))
    return home


def points(store: mlflow.MlflowClient, run: str) -> Mapping[int, int]:
    """Step -> when, in milliseconds."""
    return {point.step: point.timestamp for point in store.get_metric_history(run, "train_loss")}


def test_what_came_home_is_what_dvc_would_have_made(unpacked: Path, oracle: Path, parts: list[Path]) -> None:
    for name in NAMES:
        assert trained(unpacked, name) == trained(oracle, name)
        found, wanted = (
            json.loads((folder / f"reports/evaluations/{name}.json").read_text()) for folder in (unpacked, oracle)
        )
        for key in ("scores", "calibration", "selected", "classes", "machine", "config"):
            assert found[key] == wanted[key]
        assert found["run"]["key"] == wanted["run"]["key"]
        kept_by_dvc = (f"data/logits/{name}.npy", f"models/{name}")
        repo.call(unpacked, "git", "check-ignore", *kept_by_dvc)
    assert not [each for each in repo.ran(repo.call(unpacked, "dvc", "repro", OMP_NUM_THREADS="1")) if "@" in each]
    (result,) = results.read(parts, None)
    assert html.escape(result.manifest.machine["processor"]) in (unpacked / "reports/report.html").read_text()

    store = mlflow.MlflowClient(f"sqlite:///{unpacked / 'mlflow.db'}")
    for name in NAMES:
        (run,) = repo.runs(store, f"tags.`versus.stage` = 'train' and tags.`versus.model` = '{name[:-2]}'")
        assert run.info.status == "FINISHED"
        notes = [json.loads(line) for line in said_by(result, name, unpacked).splitlines()]
        assert points(store, run.info.run_id) == {note["step"]: int(note["time"] * 1000) for note in notes[1:]}
        assert len(notes) == EPOCHS[name[:-2]] + 1
        assert [run.info.start_time, run.info.end_time] == [int(notes[at]["time"] * 1000) for at in (0, -1)]
        (below,) = repo.runs(store, f"tags.`versus.stage` = 'evaluate' and tags.`versus.model` = '{name[:-2]}'")
        assert below.data.tags["mlflow.parentRunId"] == run.info.run_id
        assert json.loads((unpacked / f"models/{name}/run.json").read_text())["mlflow_run"] == run.info.run_id


def said_by(result: results.Result, name: str, folder: Path) -> str:
    target = folder / ".versus/said"
    result.copy(next(file for file in result.manifest.files if file.path == f"told/{name}.jsonl"), target)
    return target.read_text()


def test_a_second_unpack_changes_nothing(
    unpacked: Path, parts: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(unpacked)
    before = {name: digest for name, digest in kept(unpacked).items() if not name.startswith("mlflow.db")}
    store = mlflow.MlflowClient(f"sqlite:///{unpacked / 'mlflow.db'}")
    runs = {run.info.run_id for run in repo.runs(store)}
    unpack(parts)
    assert capsys.readouterr().out.count("DVC has it already") == 2
    assert {name: digest for name, digest in kept(unpacked).items() if not name.startswith("mlflow.db")} == before
    assert {run.info.run_id for run in repo.runs(store)} == runs


@pytest.mark.filterwarnings("ignore:_NoneStep:DeprecationWarning")  # of a library of DVC's
def test_there_is_nothing_left_to_pack(unpacked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(unpacked)
    with pytest.raises(StageError, match="nothing to train: DVC has every result"):
        pack([Path()], [], Path("x.pyz"), 10**9)
