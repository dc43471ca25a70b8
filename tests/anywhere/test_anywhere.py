"""Trained where there is no DVC, killed, gone on with elsewhere, brought home: what `dvc repro` gives, to the last bit.

The Python there is this one, with what a bare machine lacks made to fail.
"""

import contextlib
import dataclasses
import json
import math
import os
import shutil
import signal
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
from pipeline.anywhere.results import MANIFEST, SEAL, Manifest
from pipeline.anywhere.unpack import unpack
from pipeline.base.errors import PASSING, StageError
from pipeline.training import resume
from tests import repo, small_study, trees
from tests.launch.test_launch import trained
from tests.test_docs import code_cells
from tests.test_study import contents

LACKING = ("dvc", "jinja2", "matplotlib", "mlflow", "psutil", "pyarrow", "pydantic", "ruamel", "seaborn")
BARE = f"""
import sys
class Bare:
    def find_spec(self, name, *_):
        if name.split(".")[0] in {LACKING}:
            raise ModuleNotFoundError(f"No module named {{name!r}}")
sys.meta_path.insert(0, Bare())
"""
EPOCHS = {"quick": 2, "slow": 300}
NAMES = [f"{name}-0" for name in EPOCHS]
PYTHON = (sys.executable, "-W", "ignore")


@dataclasses.dataclass(frozen=True)
class Machine:
    """A folder to work in, on a machine where little is installed and whose user has an empty home."""

    above: Path

    @classmethod
    def bare(cls, above: Path) -> "Machine":
        for name in ("home", "work"):
            (above / name).mkdir(parents=True)
        trees.put(above / "bare/sitecustomize.py", BARE.encode())
        return cls(above)

    @property
    def work(self) -> Path:
        return self.above / "work"

    def start(self, *words: str) -> subprocess.Popen[str]:
        added = {"HOME": str(self.above / "home"), "PYTHONPATH": str(self.above / "bare"), "OMP_NUM_THREADS": "1"}
        kept = {key: os.environ[key] for key in ("PATH", "LANG") if key in os.environ}
        return subprocess.Popen(
            [*PYTHON, "trainings.pyz", *words],
            cwd=self.work,
            env={**kept, **added},
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

    def epochs(self, name: str) -> int:
        with contextlib.suppress(FileNotFoundError):
            return (self.work / f"trainings.run/studies/digits/told/{name}.jsonl").read_text().count("\n") - 1
        return 0


def versus(folder: Path, *words: str, fails: bool = False) -> str:
    command = [*PYTHON, "-m", "pipeline.cli", *words]
    return repo.call(folder, *command, fails=fails, PYTHONPATH=str(folder), OMP_NUM_THREADS="1")


def wait_until(reached: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    due = time.monotonic() + 200
    while not reached():
        assert time.monotonic() < due
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


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
def parts(home: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The parts of a result: killed once, out of time once, and ended elsewhere."""
    one, other = (Machine.bare(tmp_path_factory.mktemp(name)) for name in ("one", "other"))
    for machine in (one, other):
        shutil.copy(home / "trainings.pyz", machine.work)
    killed = one.start("--workers", "1", "--threads", "1")
    wait_until(lambda: one.epochs("slow-0") >= 3, killed)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()

    began = time.monotonic()
    said = one.run("--time", "22", "--threads", "1", "--workers", "1", "--out", "first.zip", "--part", "1G")
    assert time.monotonic() - began < 22
    assert "time is up" in said or "out of time" in said
    assert "begun" in said.splitlines()[-3]
    assert 3 <= one.epochs("slow-0") < EPOCHS["slow"]  # on a busy machine no more is done in that time
    assert list((one.above / "home").iterdir()) == []
    assert {path.name for path in one.work.iterdir()} == {"trainings.pyz", "trainings.run", "first.zip"}
    assert {path.name for path in one.above.iterdir()} == {"home", "bare", "work"}

    shutil.move(one.work / "first.zip", other.work)
    assert "2 done" in other.run("--from", "first.zip", "--threads", "1")
    log = (other.work / "trainings.run/studies/digits/logs/slow-0.txt").read_text()
    assert "goes on after epoch" in log
    return sorted(other.work.glob("results*.zip"), key=lambda path: (len(path.name), path.name))


def test_a_part_is_as_small_as_was_asked_for_and_weights_come_last(parts: list[Path]) -> None:
    assert len(parts) > 1
    assert max(path.stat().st_size for path in parts) <= 32_000
    (result,) = results.read(parts, None)
    kinds = [file.kind for file in result.manifest.files]
    assert kinds == sorted(kinds, key=["notes", "logits", "weights", "state"].index)
    assert {file.kind for file in result.manifest.files} == {"notes", "logits", "weights"}


def test_it_says_what_it_is_and_what_the_machine_has(home: Path, tmp_path: Path) -> None:
    machine = Machine.bare(tmp_path)
    shutil.copy(home / "trainings.pyz", machine.work)
    assert "then, at home:\n  versus unpack results*.zip" in machine.run("--help")
    said = machine.run("--check")
    assert f"torch {torch.__version__.split('+')[0]}" in said
    for name in NAMES:
        assert f"digits/{name}: runs" in said
    if not torch.cuda.is_available():
        assert "no GPU" in said
        said = machine.run("--bench", status=1)
        assert said.startswith("versus: make bench-gpu needs a CUDA GPU, and this machine has none")
        assert said.count("\n") == 1
    assert machine.run("--part", "9k", status=1).startswith("versus: --part: 9000 bytes hold little more than")
    assert list((tmp_path / "home").iterdir()) == []


def test_an_end_by_sigterm_leaves_a_result_and_another_pack_leaves_its_folder_alone(home: Path, tmp_path: Path) -> None:
    machine = Machine.bare(tmp_path)
    shutil.copy(home / "trainings.pyz", machine.work)
    process = machine.start("--threads", "1")
    wait_until(lambda: machine.epochs("slow-0") >= 1, process)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=100)
    assert process.returncode == 130, said
    assert "interrupted; what there is, is written" in said
    (result,) = results.read(sorted(machine.work.glob("results*.zip")), None)
    states = {each["name"]: each["state"] for each in result.manifest.trainings}
    assert states["digits/slow-0"] == "begun"
    (machine.work / "trainings.run/pack").write_text("another")
    assert "is not of this pack; move it away" in machine.run(status=1)


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
    name: str, home: Path, parts: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the results of an earlier session, so that there is nothing left to train."""
    given, fetched = [home / "trainings.pyz", *parts], []
    colab = types.SimpleNamespace(
        upload=lambda: [shutil.copy(path, tmp_path) for path in given], download=lambda path: fetched.append(path)
    )
    monkeypatch.setitem(sys.modules, "google.colab", types.SimpleNamespace(files=colab))
    (tmp_path / "input").mkdir()
    for path in given:
        shutil.copy(path, tmp_path / "input")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    cells = code_cells(trees.ROOT / f"notebooks/{name}.ipynb")
    assert len(cells) == 3
    for cell in cells:
        exec(cell.replace("/kaggle/input", str(tmp_path / "input")), names)
    found = sorted(tmp_path.glob("results*.zip"))
    (result,) = results.read(found, None)
    assert [each["state"] for each in result.manifest.trainings] == ["done", "done"]
    assert result.manifest.files == results.read(parts, None)[0].manifest.files
    assert fetched == ([path.name for path in found] if name == "colab" else [])


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


def resealed(parts: list[Path], folder: Path, changed: Callable[[Manifest], Manifest], pyz: Path) -> list[Path]:
    """Parts whose list somebody changed who has the pack, and so its key."""
    key = zipfile.ZipFile(pyz).read("pack.key")

    def change(entries: dict[str, bytes]) -> None:
        entries[MANIFEST] = changed(Manifest.of(entries[MANIFEST])).text()
        entries[SEAL] = results.seal(entries[MANIFEST], key).encode()

    return rewritten(parts, folder, change)


def test_weights_of_another_training_are_refused(here: Path, parts: list[Path], tmp_path: Path) -> None:
    other = listed(parts, "models/quick-0/weights.safetensors")

    def swapped(manifest: Manifest) -> Manifest:
        files = [
            dataclasses.replace(file, sha256=other.sha256, size=other.size)
            if file.path == "models/slow-0/weights.safetensors"
            else file
            for file in manifest.files
        ]
        own = listed(parts, "models/slow-0/weights.safetensors")
        return dataclasses.replace(manifest, files=[*files, dataclasses.replace(own, path="models/slow-0/left")])

    with pytest.raises(StageError, match=r"digits/slow-0: its weights do not give its logits; refused"):
        unpack(resealed(parts, tmp_path, swapped, here / "trainings.pyz"))


def test_a_path_outside_the_study_is_refused(here: Path, parts: list[Path], tmp_path: Path) -> None:
    def led_outside(manifest: Manifest) -> Manifest:
        return dataclasses.replace(
            manifest, files=[dataclasses.replace(file, path=f"../{file.path}") for file in manifest.files]
        )

    with pytest.raises(StageError, match="no result of a pack, or damaged"):
        unpack(resealed(parts, tmp_path, led_outside, here / "trainings.pyz"))


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
    text = (here / "params.yaml").read_text().replace("epochs: 300", "epochs: 301")
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
    unpack(found)
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
    assert repo.ran(repo.call(unpacked, "dvc", "repro", *[f"evaluate@{name}" for name in NAMES])) == []

    store = mlflow.MlflowClient(f"sqlite:///{unpacked / 'mlflow.db'}")
    (result,) = results.read(parts, None)
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


def test_a_second_unpack_changes_nothing(unpacked: Path, parts: list[Path]) -> None:
    before = {name: digest for name, digest in kept(unpacked).items() if not name.startswith("mlflow.db")}
    store = mlflow.MlflowClient(f"sqlite:///{unpacked / 'mlflow.db'}")
    runs = {run.info.run_id for run in repo.runs(store)}
    said = versus(unpacked, "unpack", *map(str, parts))
    assert said.count("DVC has it already") == 2
    assert {name: digest for name, digest in kept(unpacked).items() if not name.startswith("mlflow.db")} == before
    assert {run.info.run_id for run in repo.runs(store)} == runs


def test_there_is_nothing_left_to_pack(unpacked: Path) -> None:
    assert "nothing to train: DVC has every result" in versus(unpacked, "pack", fails=True)
