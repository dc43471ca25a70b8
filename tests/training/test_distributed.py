"""Several processes make the training of one: same weights, same scores, and an end together."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from torch.testing import assert_close

from pipeline.base import errors
from pipeline.training import distributed
from tests import ranks, repo, small_study

Result = dict[str, Any]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> list[Result]:
    """What two processes find together, each for itself."""
    folder = tmp_path_factory.mktemp("ranks")
    start = (
        "import sys; from pipeline.training import distributed; distributed.spawn(2, 'cpu', 'tests.ranks', sys.argv[1])"
    )
    subprocess.run([sys.executable, "-c", start, str(folder)], cwd=repo.ROOT, check=True)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("name", ranks.TRAININGS)
def test_two_processes_train_what_one_trains(name: str, shared: list[Result]) -> None:
    """To float32's rounding, whatever network, loss and augmentation; in both processes alike."""
    alone = ranks.train(name)
    for found in shared:
        assert found[name]["weights"].keys() == alone["weights"].keys()
        for key, value in alone["weights"].items():
            assert_close(found[name]["weights"][key], value, rtol=1e-3, atol=2e-5)
        assert_close(torch.tensor(found[name]["history"]), torch.tensor(alone["history"]), rtol=1e-3, atol=1e-5)
    assert_close(shared[0][name]["weights"], shared[1][name]["weights"], rtol=0, atol=0)


def test_batch_norm_is_that_of_the_whole_batch(shared: list[Result]) -> None:
    alone, parts = ranks.normalise(slice(None)), [found["normalise"] for found in shared]
    for key in ("found", "gradient"):
        assert_close(torch.cat([part[key] for part in parts]), alone[key])
    for key in ("mean", "var"):
        assert_close(parts[0][key], alone[key])
        assert_close(parts[1][key], alone[key])


@pytest.mark.parametrize(("count", "world"), [(10, 1), (10, 3), (7, 7), (3, 5)])
def test_shares_hold_every_row_once_in_order_and_differ_by_one_at_most(count: int, world: int) -> None:
    shares = [range(count)[distributed.part(count, rank, world)] for rank in range(world)]
    assert [row for share in shares for row in share] == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


# The stage


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study whose training takes two processes; data/fit is made, nothing trained."""
    folder = tmp_path_factory.mktemp("study")
    settings = {"train.devices": 2, "train.batch_size": 64}
    models = {"tiny": {**small_study.MODELS["tiny"], "train": {"epochs": 3}}}
    return small_study.run(folder, settings, models, trained=())


def stage(study: Path, **environment: str) -> subprocess.Popen[str]:
    fixed = {"PYTHONPATH": str(repo.ROOT), "OMP_NUM_THREADS": "1"}
    fixed["VERSUS_WARM"] = ""  # so that the processes are its children
    store = {**fixed, "MLFLOW_TRACKING_URI": f"sqlite:///{study}/store.db"}
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline.stages.train", "tiny", "0"],
        cwd=study,
        env={**os.environ, **store, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_killed_process_ends_the_stage_in_one_line_and_leaves_nothing(study: Path) -> None:
    small_study.write(
        study, {"train.devices": 2, "train.epochs": 5000}, {"tiny": {**small_study.MODELS["tiny"], "train": {}}}
    )
    started = stage(study)
    try:
        while not (joined := workers(started.pid)) and started.poll() is None:
            time.sleep(0.2)
        os.kill(joined[1], signal.SIGKILL)
        _, said = started.communicate(timeout=300)
    finally:
        started.kill()
    assert started.returncode == 1
    assert "versus: process 1 of 2 died (exit status -9), and the others were ended; run again" in said
    assert "Traceback" not in said
    assert not any(psutil.pid_exists(pid) for pid in joined)
    assert not (study / "models").exists()


def test_two_hosts_with_a_process_each_train_what_one_host_with_two_does(study: Path) -> None:
    """Hosts that see the same folder; one of them keeps the result. To the last bit: the sums are the same ones."""
    small_study.write(
        study,
        {"train.devices": 2, "train.batch_size": 64},
        {"tiny": {**small_study.MODELS["tiny"], "train": {"epochs": 3}}},
    )
    one = stage(study)
    assert "train: tiny-0" in one.communicate(timeout=300)[0]
    weights = study / "models/tiny-0/weights.safetensors"
    alone = weights.read_bytes()
    shutil.rmtree(study / "models")
    (port,) = repo.free_ports()
    meeting = {"NNODES": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "VERSUS_HOME": f"{study}/home"}
    hosts = [stage(study, NODE_RANK=rank, **meeting) for rank in ("0", "1")]
    try:
        said = [host.communicate(timeout=300) for host in hosts]
    finally:
        for host in hosts:
            host.kill()
    assert [host.returncode for host in hosts] == [0, 0], said
    assert weights.read_bytes() == alone
    assert "train: tiny-0" in said[0][0]
    assert said[1][0] == ""


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"NNODES": "2", "NODE_RANK": "0", "MASTER_PORT": "29500"}, "several hosts need them all"),
        ({"NNODES": "2", "NODE_RANK": "first", "MASTER_PORT": "1", "MASTER_ADDR": "h"}, "several hosts need them all"),
        ({"NNODES": "3", "NODE_RANK": "0", "MASTER_PORT": "1", "MASTER_ADDR": "h"}, "got 2, for NNODES=3 hosts"),
    ],
)
def test_hosts_that_cannot_meet_are_refused(given: dict[str, str], expected: str, monkeypatch: Any) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(errors.StageError, match=expected):
        distributed.spawn(2, "cpu", "pipeline.stages.train")


def workers(parent: int) -> list[int]:
    """The processes of a stage, in the order of their ranks, once they are connected to each other."""
    found = {}
    for process in psutil.Process(parent).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            environment = process.environ()
            peers = [each for each in process.net_connections("tcp") if each.status == psutil.CONN_ESTABLISHED]
            if "RANK" in environment and len(peers) > 1:
                found[environment["RANK"]] = process.pid
    return [found["0"], found["1"]] if len(found) == 2 else []
