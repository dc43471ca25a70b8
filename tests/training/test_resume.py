"""A training that was killed goes on from its last epoch and ends bit for bit where it would have ended."""

import dataclasses
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.base.errors import PassingError
from pipeline.records import diary
from pipeline.training import resume
from tests import trees
from tests.training.test_fit import fit
from tests.training.test_fused import compiler

KEY = "0123456789abcdef" * 4
PROTOCOLS: tuple[Any, ...] = (
    {},
    {"optimizer": "sgd", "schedule": "onecycle"},
    {"sam": 0.05, "mixup": 0.2},
    {"select": "last", "sampler": "weighted"},
    {"select": "average", "average": "swa"},
    {"select": "average", "average": "ema"},
    pytest.param({"compile": "fused", "precision": "bf16"}, marks=compiler),
)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / ".dvc").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Killed(BaseException):
    pass


def killed_in(epoch: int, changes: dict[str, Any]) -> None:
    """Train until `epoch` (from 1) is over and not yet kept."""

    def on_epoch(row: diary.Epoch) -> None:
        if row.epoch == epoch:
            raise Killed

    with resume.opened(KEY) as kept, pytest.raises(Killed):
        fit(on_epoch=on_epoch, keeper=kept, **changes)


@pytest.mark.parametrize("changes", PROTOCOLS, ids=str)
def test_a_killed_training_ends_bit_for_bit_where_an_uninterrupted_one_ends(
    changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resume, "SHARE", 1e9)
    whole = fit(epochs=4, **changes)
    trained: list[int] = []
    for epoch in (1, 2, 4):  # before anything was kept; after one epoch; with all but the last
        killed_in(epoch, {"epochs": 4, **changes})
    with resume.opened(KEY) as kept:
        assert kept.load()["so_far"]["history"][-1]["epoch"] == 3  # type: ignore[index]
        again = fit(epochs=4, on_epoch=lambda row: trained.append(row.epoch), keeper=kept, **changes)
    assert trained == [1, 2, 3, 4], "what was logged before is offered again: the kill may have come before it was"
    assert again.history == whole.history
    assert again.selected == whole.selected
    assert list(again.weights) == list(whole.weights)
    assert all(torch.equal(again.weights[name], whole.weights[name]) for name in whole.weights)


def test_a_finished_training_is_taken_and_not_repeated() -> None:
    with resume.opened(KEY) as kept:
        first = fit(keeper=kept)
    started = torch.get_rng_state()
    with resume.opened(KEY) as kept:
        second = fit(keeper=kept)
    assert torch.equal(torch.get_rng_state(), started), "no epoch ran"
    assert dataclasses.replace(second, weights={}) == dataclasses.replace(first, weights={})
    assert all(torch.equal(second.weights[name], first.weights[name]) for name in first.weights)


@pytest.mark.parametrize("content", [b"", b"half a fi", None], ids=["empty", "damaged", "another format"])
def test_a_state_that_cannot_be_read_is_said_so_and_training_begins_anew(
    content: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    with resume.opened(KEY) as kept:
        if content is None:
            kept.folder.mkdir(parents=True)
            torch.save({"format": 0}, kept.path)
        else:
            trees.put(kept.path, content)
        assert len(fit(keeper=kept).history) == 3
    assert "not readable" in capsys.readouterr().err


def test_a_state_holds_no_code() -> None:
    with resume.opened(KEY) as kept:
        fit(keeper=kept, select="average")
        assert "fit" in torch.load(kept.path, weights_only=True)


def test_a_full_disk_costs_the_state_and_not_the_training(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = fit()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with resume.opened(KEY) as kept:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
        try:
            again = fit(keeper=kept)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert again.history == whole.history
    assert capsys.readouterr().err.count("cannot be written") == 1
    assert not [path for path in home.rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_saving_takes_a_small_share_of_the_time_and_the_last_state_is_always_saved() -> None:
    saved: list[int] = []

    def state(number: int) -> dict[str, Any]:
        saved.append(number)
        time.sleep(0.02)
        return {"number": number}

    with resume.opened(KEY) as kept:
        for number in range(10):
            kept.save(lambda number=number: state(number))
        kept.save(lambda: state(10), last=True)
        assert saved == [0, 10]
        assert kept.load()["number"] == 10  # type: ignore[index]


def test_two_trainers_never_share_a_state(home: Path) -> None:
    code = (
        "import sys\nfrom pipeline.training import resume\n"
        f"with resume.opened('{KEY}') as kept:\n  print('in', kept.run, flush=True); input()"
    )
    environment = {**os.environ, "PYTHONPATH": str(trees.ROOT)}
    options: dict[str, Any] = {"cwd": home, "env": environment, "text": True}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with resume.opened(KEY) as kept:
        other = subprocess.Popen([sys.executable, "-c", code], **options, **pipes)
        assert other.stderr is not None
        assert "waiting for what it leaves" in other.stderr.readline()
        kept.note(run="abc")
        resume.discard(KEY)
        assert kept.folder.exists(), "it is open"
        assert other.poll() is None
    assert other.communicate("\n")[0] == "in abc\n"
    resume.discard(KEY)
    assert not kept.folder.exists()


def test_a_killed_process_lets_go_of_its_state(home: Path) -> None:
    code = f"import os\nfrom pipeline.training import resume\nwith resume.opened('{KEY}'):\n  os.kill(os.getpid(), 9)"
    environment = {**os.environ, "PYTHONPATH": str(trees.ROOT)}
    assert subprocess.run([sys.executable, "-c", code], cwd=home, env=environment, check=False).returncode == -9
    with resume.opened(KEY) as kept:
        assert kept.load() is None


def test_a_training_that_is_out_of_time_keeps_its_state_and_goes_on_to_the_same_bits() -> None:
    whole = fit(epochs=4)
    told: list[int] = []
    for _ in range(3):
        with (
            resume.opened(KEY, until=time.time()) as kept,
            pytest.raises(PassingError, match="out of time; the training goes on from here"),
        ):
            fit(epochs=4, keeper=kept, on_epoch=lambda row: told.append(row.epoch))
    assert told == [1, *(1, 2), *(1, 2, 3)]  # each call tells of the epochs before, too
    with resume.opened(KEY, until=time.time()) as kept:  # nothing is left to do after the last epoch
        last = fit(epochs=4, keeper=kept)
    assert all(torch.equal(last.weights[key], value) for key, value in whole.weights.items())
