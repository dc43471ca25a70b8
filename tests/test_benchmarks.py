"""What `make bench` is made of; its numbers are a machine's own."""

import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from benchmarks import bench, noop, preparing, replicates, starting, stepping
from pipeline import stage
from pipeline.launch import local

ROOT = Path(__file__).parent.parent


def test_a_row_is_the_median_of_the_ratios_of_rounds_in_turn() -> None:
    calls: list[str] = []
    ours, peers = iter([99.0, 2.0, 8.0, 3.0]), iter([99.0, 1.0, 2.0, 1.0])

    def side(name: str, numbers: Iterator[float]) -> Callable[[], float]:
        return lambda: (calls.append(name), next(numbers))[1]

    row = bench.compare("a", "s", side("ours", ours), side("peer", peers), ">= 3", rounds=3)
    assert calls == ["ours", "peer"] * 4  # the first round does not count
    assert (row.ours, row.peer, row.ratio, row.low, row.high) == (3, 1, 3, 2, 4)
    assert row.met
    assert not dataclasses.replace(row, ratio=2.99).met
    assert dataclasses.replace(row, ratio=0.004, target="<= 0.005").met
    assert "| 0.004 (2 to 4) | <= 0.005 | met: why |" in bench.table(
        [dataclasses.replace(row, ratio=0.004, target="<= 0.005", note="why")]
    )


def echo(start: int) -> Callable[[int], tuple[int, int, str]]:
    return lambda more: (start + more, os.getpid(), os.environ["ECHO"])


def test_a_worker_answers_from_a_process_of_its_own() -> None:
    with bench.Worker(echo, 40, ECHO="heard") as worker:
        assert worker(2) == (42, worker.process.pid, "heard")
        assert worker(3)[0] == 43
    assert worker.process.exitcode == 0
    assert "ECHO" not in os.environ


def test_replicates_at_once_leave_what_each_leaves_alone() -> None:
    case = dataclasses.replace(stepping.MNIST, batches=2, batch_size=8)
    slots = local.slots(min(2, len(stage.cores())), 1, [], stage.cores())
    threads, cores = torch.get_num_threads(), stage.cores()
    workers = [bench.Worker(replicates.trainer, case, slot.cores[:1]) for slot in slots]
    found = replicates.together(workers)
    assert found == [worker(replicate) for replicate, worker in enumerate(workers)]
    assert len(set(found)) == len(found)
    for worker in workers:
        worker.__exit__()
    assert (torch.get_num_threads(), stage.cores()) == (threads, cores)


def test_what_a_stage_must_import_is_of_others_and_loaded() -> None:
    loaded = {"pipeline", "pipeline.subset", "pipeline.params", "numpy", "pydantic", "filelock", "torch"}
    found = starting.imports(loaded)
    assert {"import numpy", "from pydantic import BaseModel, ConfigDict, Field"} <= set(found)
    assert not [line for line in found if "torch" in line or "pipeline" in line or "json" in line]


@pytest.mark.parametrize("full", [True, False])
def test_the_study_with_nothing_to_do_has_the_sizes_of_real_data(tmp_path: Path, full: bool) -> None:
    sizes = {"images.npy": 10_000}
    noop.leave(tmp_path / "data/test", sizes, full)
    noop.leave(tmp_path / "reports/metrics.json", {}, full)
    assert (tmp_path / "data/test/images.npy").stat().st_size == 10_000 * full
    assert (tmp_path / "reports/metrics.json").stat().st_size == 4096 * full
    assert noop.outputs({"outs": ["a"], "metrics": [{"b": {"cache": False}}]}) == ["a", "b"]


def test_preparing_is_left_out_without_the_archive(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("VERSUS_DATASETS", raising=False)
    assert list(preparing.rows()) == []
    assert "VERSUS_DATASETS" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_its_rows_end_in_one_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "gpu"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("versus: make bench-gpu needs a CUDA GPU")
