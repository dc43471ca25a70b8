"""How trainings share a machine: workers that only sleep, and GPUs that are not there."""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.anywhere import crew
from pipeline.anywhere.contents import Contents, Task
from pipeline.anywhere.crew import Crew
from pipeline.base.places import cores
from tests import trees

WORKER = """
import json, os, sys, time
from pathlib import Path

task = json.loads(Path(sys.argv[1]).read_text())["assignment"]
name, here = task["name"], Path.cwd()
(here / "running").mkdir(exist_ok=True)
mine, tried = here / "running" / name, here / f"{name} was tried"
if task["memory"] and not tried.exists():
    tried.touch()
    print("versus: out of memory; lower train.batch_size, and run again")
    sys.exit(75)
mine.write_text(os.environ.get("CUDA_VISIBLE_DEVICES", "all"))
(here / "seen" / name).write_text(" ".join(sorted(path.name for path in (here / "running").iterdir())))
(here / "gpu" / name).write_text(mine.read_text())
for epoch in range(1, task["config"]["train"]["epochs"] + 1):
    time.sleep(task["seconds"] * (1 if task["scales"] else len(list((here / "running").iterdir()))))
    with (here / "told" / f"{name}.jsonl").open("a") as file:
        file.write(json.dumps({"time": time.time(), "step": epoch, "values": {}}) + "\\n")
mine.unlink()
(here / "data/logits" / f"{name}.npy").touch()
"""


def task(name: str, epochs: int = 1, seconds: float = 0.2, devices: int = 1, **more: Any) -> Task:
    protocol = {"epochs": epochs, "devices": devices, "keep_epochs": False}
    told = {"config": {"train": protocol}, "name": name, "seconds": seconds, "memory": False, "scales": True, **more}
    return Task("a study", name, told, images=100, seconds=None)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "POLL", 0.05)
    monkeypatch.setattr(crew, "GRACE", 1)
    monkeypatch.setattr(crew, "COMMAND", (sys.executable, "-c", WORKER))


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two GPUs, on which there is always room."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "A GPU")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (90, 100))
    monkeypatch.setattr(crew, "cores", lambda: list(range(8)))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return iter(())


def run(folder: Path, *tasks: Task, until: float = float("inf"), workers: int | None = None) -> Crew:
    for place in ("data/logits", "told", "seen", "gpu"):
        (folder / "studies/a study" / place).mkdir(parents=True)
    made = Crew(Contents(folder, "", "", 1, tasks, [], folder / "x.pyz", b""), until, workers, None)
    made.run()
    made.end()
    return made


def seen(folder: Path, what: str) -> dict[str, str]:
    return {path.name: path.read_text() for path in (folder / "studies/a study" / what).iterdir()}


def test_one_that_lacks_memory_beside_others_runs_later_with_fewer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks = [task("a", epochs=4), task("b", epochs=3, memory=True), task("c", epochs=2)]
    made = run(tmp_path, *tasks, workers=2)
    assert made.summary() == "3 done"
    said = capsys.readouterr().out
    assert (
        "a study/b: out of memory; lower train.batch_size, and run again; later again, 1 at a time from now on" in said
    )
    assert seen(tmp_path, "seen") == {"a": "a", "b": "b", "c": "c"}


def test_one_that_lacks_memory_alone_has_failed_and_the_others_go_on(tmp_path: Path) -> None:
    made = run(tmp_path, task("a", memory=True), task("b"), workers=1)
    assert made.outcomes() == [
        {"name": "a study/a", "state": "failed", "reason": "out of memory; lower train.batch_size, and run again"},
        {"name": "a study/b", "state": "done", "reason": ""},
    ]


@pytest.mark.usefixtures("gpus")
def test_gpus_share_the_workers_and_one_on_several_has_all_for_itself(tmp_path: Path) -> None:
    run(tmp_path, task("a", 5), task("b", 4), task("both", 3, devices=2), task("c", 2), task("d", 2))
    found = seen(tmp_path, "gpu")
    assert found.pop("both") == "all"
    assert {found["a"], found["b"]} == {found["c"], found["d"]} == {"0", "1"}
    assert seen(tmp_path, "seen")["both"] == "both"


@pytest.mark.usefixtures("gpus")
def test_a_gpus_name_is_the_one_that_the_user_gave(monkeypatch: pytest.MonkeyPatch) -> None:
    assert crew.visible(1) == "1"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, GPU-5")
    assert [crew.visible(0), crew.visible(1)] == ["3", "GPU-5"]


@pytest.mark.usefixtures("gpus")
@pytest.mark.parametrize("scales", [True, False])
def test_a_worker_more_stays_where_it_pays(tmp_path: Path, capsys: pytest.CaptureFixture[str], scales: bool) -> None:
    """Where it does not, epochs take as much longer as there are more workers."""
    made = run(tmp_path, *[task(f"t{number}", 12, 0.15, scales=scales) for number in range(4)])
    assert made.summary() == "4 done"
    assert ("another one did not pay" in capsys.readouterr().out) is not scales
    assert (made.workers > 2) is scales


def test_what_is_not_done_when_time_is_up_has_begun_or_waits(tmp_path: Path) -> None:
    began = time.time()
    made = run(tmp_path, task("a", 300), task("b", 1), until=began + crew.ENDING + 1.5, workers=1)
    assert time.time() - began < crew.ENDING + 1.5
    assert made.summary() == "1 begun, 1 waiting"


def test_writing_what_there_is_takes_of_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "WRITING", 10)
    trees.put(tmp_path / "studies/a study/models/a/weights.safetensors", bytes(500))
    until = time.time() + 1000
    made = Crew(Contents(tmp_path, "", "", 1, [task("a")], [], tmp_path / "x.pyz", b""), until, 1, None)
    made.tell()
    assert made.deadline == until - crew.ENDING - 50


def test_the_longest_start_first_and_those_that_never_ran_lead() -> None:
    known = Task("s", "known", {"config": {"train": {"epochs": 1}}}, 1, 50.0)
    longer = Task("s", "longer", {"config": {"train": {"epochs": 1}}}, 1, 60.0)
    assert sorted([known, task("new"), longer], key=crew.work, reverse=True) == [task("new"), longer, known]


def test_without_a_gpu_there_is_one_for_every_two_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for count, workers, threads in ((1, 1, 1), (2, 2, 1), (8, 4, 2)):
        monkeypatch.setattr(crew, "cores", lambda count=count: cores()[:1] * count)
        made = Crew(Contents(tmp_path, "", "", 1, [], [], tmp_path, b""), float("inf"), None, None)
        assert (made.workers, made.threads) == (workers, threads)


def test_a_note_that_is_half_written_is_no_epoch(tmp_path: Path) -> None:
    made = run(tmp_path, task("a", 2))
    path = tmp_path / "studies/a study/told/a.jsonl"
    lines = path.read_text()
    assert [json.loads(line)["step"] for line in lines.splitlines()] == [1, 2]
    assert made.states == {"a study/a": "done"}
