"""What `make bench` is made of; its numbers are a machine's own."""

import dataclasses
import os
import pkgutil
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from benchmarks import __main__, bench, noop, preparing, replicates, starting, stepping
from pipeline.base import places
from pipeline.datasets import cifar10
from tests import repo, trees

TOGETHER = (("noop", "starting", "preparing", "recording"), ("feeding", "stepping", "plain", "evaluating"))
ALONE = "replicates"  # in a test of its own


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


def test_replicates_at_once_leave_what_each_leaves_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    case = dataclasses.replace(stepping.MNIST, batches=2, batch_size=8)
    digests: list[list[str]] = []
    together = replicates.together
    monkeypatch.setattr(replicates, "together", lambda workers: digests.append(together(workers)) or digests[-1])
    monkeypatch.setattr(replicates, "TARGETS", {case: (">= 1", "a small network's")})
    monkeypatch.setattr(bench, "SHORT", True)
    monkeypatch.setattr(bench, "ROUNDS", 1)
    threads, cores = torch.get_num_threads(), places.cores()
    (row,) = replicates.rows()  # compares each with its solo run
    assert row.note == "each equals its solo run"
    (found,) = digests
    assert len(set(found)) == len(found)
    assert (torch.get_num_threads(), places.cores()) == (threads, cores)


def test_what_a_stage_must_import_is_of_others_and_loaded() -> None:
    loaded = {
        "pipeline",
        "pipeline.images.subset",
        "pipeline.params.settings",
        "numpy",
        "pydantic",
        "filelock",
        "torch",
    }
    found = starting.imports(loaded)
    assert {"import numpy", "from pydantic import BaseModel, ConfigDict, Field"} <= set(found)
    assert not [line for line in found if "torch" in line or "pipeline" in line or "json" in line]


def test_the_work_of_every_stage_begins_at_a_function_that_there_is() -> None:
    assert [
        stage for stage, (place, name, _) in starting.WORK.items() if not hasattr(pkgutil.resolve_name(place), name)
    ] == []


@pytest.mark.parametrize("full", [True, False])
def test_the_study_with_nothing_to_do_has_the_sizes_of_real_data(tmp_path: Path, full: bool) -> None:
    sizes = {"images.npy": 10_000}
    noop.leave(tmp_path / "data/test/0", sizes, full)
    noop.leave(tmp_path / "reports/metrics.json", {}, full)
    assert (tmp_path / "data/test/0/images.npy").stat().st_size == 10_000 * full
    assert (tmp_path / "reports/metrics.json").stat().st_size == 4096 * full


def test_what_a_stage_reads_of_a_folder_that_another_makes_is_left_too() -> None:
    makes = {"outs": ["a"], "metrics": [{"b": {"cache": False}}], "deps": ["code.py"]}
    assert noop.outputs(makes) == ["a", "b"]
    assert noop.inside({"makes": makes, "reads": {"deps": ["a/info.json", "a", "b"]}}) == ["a/info.json"]


def test_preparing_is_left_out_without_the_archive(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("VERSUS_DATASETS", raising=False)
    assert list(preparing.rows()) == []
    assert "VERSUS_DATASETS" in capsys.readouterr().err


def test_every_row_of_make_bench_is_run_here() -> None:
    assert sorted(__main__.NAMES) == sorted([*TOGETHER[0], *TOGETHER[1], ALONE])


@pytest.mark.parametrize("names", TOGETHER, ids=" ".join)
def test_make_bench_measures_its_rows(names: tuple[str, ...], tmp_path: Path) -> None:
    images = trees.class_tree(
        tmp_path / "cifar10",
        {split: dict.fromkeys(cifar10.ABOUT.classes, count) for split, count in (("train", 12), ("test", 2))},
        size=(32, 32),
        suffix="jpg",
    )
    with zipfile.ZipFile(tmp_path / "cifar10.zip", "w") as archive:
        for path in sorted(images.rglob("*.jpg")):
            archive.write(path, path.relative_to(images))
    said = repo.make("bench", f"ROWS={' '.join(names)}", "SHORT=1", VERSUS_DATASETS=str(tmp_path))
    assert re.findall(r"^(\w+): \d+ s$", said, re.MULTILINE) == list(names)
    assert "A short run: these are no measurements." in said
    assert said.count("| met") + said.count("| missed") >= len(names)


def test_make_bench_gpu_measures_or_says_in_one_line_what_it_needs() -> None:
    said = repo.make("bench-gpu", "SHORT=1", fails=not torch.cuda.is_available())
    if torch.cuda.is_available():
        assert "these are no measurements" in said
    else:
        assert "versus: make bench-gpu needs a CUDA GPU" in said
        assert "Traceback" not in said
