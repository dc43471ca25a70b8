"""A stage that another process runs in its place is, does and ends as one that runs by itself."""

import contextlib
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline.base.handover import WARM
from pipeline.launch import warm
from tests import repo

PROBE = """
import json, os, signal, sys, time
import numpy, threadpoolctl, torch
from pipeline.base.process import run

def main():
    what = sys.argv[1]
    if what == "facts":
        pools = sorted({pool["num_threads"] for pool in threadpoolctl.threadpool_info()})
        print(json.dumps({
            "name": __name__, "argv": sys.argv, "orig_argv": sys.orig_argv[1:], "path": sys.path,
            "environment": {key: value for key, value in os.environ.items() if key != "VERSUS_WARM"},
            "umask": os.umask(0), "cores": sorted(os.sched_getaffinity(0)), "threads": torch.get_num_threads(),
            "pools": pools, "signals": [callable(signal.getsignal(number)) for number in range(1, 32)],
            "streams": [[x.encoding, x.errors, x.line_buffering or x.write_through] for x in (sys.stdout, sys.stderr)],
            "in": [sys.stdin.encoding, sys.stdin.errors],
            "input": sys.stdin.read(), "timezone": time.tzname, "here": sys.modules["pipeline"].__file__,
            "folder": os.getcwd(),
        }))
    elif what == "exit":
        sys.exit(eval(sys.argv[2]))
    elif what == "fault":
        raise ValueError("no")
    elif what == "kill":
        os.kill(os.getpid(), 9)
    else:
        print(os.getpid(), flush=True)
        time.sleep(60)

if __name__ == "__main__":
    run(main)
"""


@pytest.fixture(scope="module")
def kept() -> Iterator[str]:
    """The socket of a process that is ready."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(WARM, raising=False)
        patch.delenv("PYTHONPATH", raising=False)
        patch.setenv("OMP_NUM_THREADS", "1")
        with warm.kept():
            ready(os.environ[WARM])
            yield os.environ[WARM]


def ready(socket: str) -> None:
    """Wait until somebody listens there."""
    due = time.monotonic() + 120
    while not os.path.exists(socket) and time.monotonic() < due:
        time.sleep(0.1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with one stage, which says what it finds."""
    folder = tmp_path_factory.mktemp("checkout") / "häßlich & long"
    shutil.copytree(repo.ROOT / "pipeline/base", folder / "pipeline/base")
    for name in ("__init__.py", "stages/__init__.py"):
        (folder / "pipeline" / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(repo.ROOT / "pipeline" / name, folder / "pipeline" / name)
    (folder / "pipeline/stages/probe.py").write_text(PROBE)
    return folder


def begun(folder: Path, *words: str, socket: str | None, **keywords: Any) -> subprocess.Popen[str]:
    variables = {**repo.user(), "OMP_NUM_THREADS": "2", "TZ": "Asia/Tokyo", "SOME": "thing", WARM: socket or ""}
    command = [sys.executable, "-m", "pipeline.stages.probe", *words]
    return subprocess.Popen(
        command, cwd=folder, env=variables, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, **keywords,
    )  # fmt: skip


def facts(folder: Path, socket: str | None) -> dict[str, Any]:
    process = begun(folder, "facts", "ä b", socket=socket, preexec_fn=lambda: os.umask(0o027))
    output, said = process.communicate("of mine", timeout=120)
    assert process.returncode == 0, said
    return json.loads(output)


def test_it_finds_what_it_would_find_by_itself(folder: Path, kept: str) -> None:
    by_itself, in_a_copy = facts(folder, None), facts(folder, kept)
    more, variables = in_a_copy.pop("environment"), by_itself.pop("environment")
    assert more | variables == more, "libraries set some when they are imported, and all are imported in a copy"
    for name, found in by_itself.items():
        assert in_a_copy[name] == found, name
    assert by_itself["threads"] == 2
    assert by_itself["here"].startswith(str(folder))
    assert by_itself["umask"] == 0o027


@pytest.mark.parametrize(
    "words", [("exit", "0"), ("exit", "None"), ("exit", "7"), ("exit", "'no'"), ("fault",), ("kill",)]
)
def test_it_ends_as_it_would_end_by_itself(words: tuple[str, ...], folder: Path, kept: str) -> None:
    ends = []
    for socket in (None, kept):
        process = begun(folder, *words, socket=socket)
        said = process.communicate(timeout=120)[1]
        ends.append((process.returncode, said.splitlines()[-1:]))
    assert ends[0] == ends[1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_what_it_is_sent_reaches_the_copy(number: signal.Signals, folder: Path, kept: str) -> None:
    heard = functools.partial(
        signal.signal, signal.SIGINT, signal.SIG_DFL
    )  # also where a job in the background runs it
    process = begun(folder, "wait", socket=kept, preexec_fn=heard)
    assert process.stdout
    copy = psutil.Process(int(process.stdout.readline()))
    assert copy.pid != process.pid, "a copy runs it"
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == {signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGKILL: -9}[number]
    with contextlib.suppress(psutil.NoSuchProcess):
        copy.wait(timeout=60)


def test_one_of_other_libraries_is_not_taken(folder: Path, kept: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They may be other versions than the stage would find on its own path."""
    monkeypatch.setattr(repo, "user", lambda user=repo.user: {**user(), "PYTHONPATH": str(folder / "own")})
    process = begun(folder, "wait", socket=kept)
    assert process.stdout
    assert int(process.stdout.readline()) == process.pid, "it runs by itself"
    process.kill()
    process.communicate()


def test_without_that_process_a_stage_runs_by_itself(folder: Path, tmp_path: Path) -> None:
    assert facts(folder, str(tmp_path / "nobody"))["threads"] == 2


def test_it_ends_with_its_launcher_and_copies_with_it(folder: Path) -> None:
    code = "import os, sys\nfrom pipeline.launch import warm\n"
    code += "with warm.kept():\n    print(os.environ['VERSUS_WARM'], flush=True)\n    sys.stdin.read()"
    variables = {key: value for key, value in repo.user().items() if key != WARM}
    variables |= {"OMP_NUM_THREADS": "1"}
    launcher = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=repo.ROOT,
        env=variables,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert launcher.stdout
    socket = launcher.stdout.readline().strip()
    ready(socket)
    (kept,) = psutil.Process(launcher.pid).children()
    process = begun(folder, "wait", socket=socket)
    assert process.stdout
    copy = int(process.stdout.readline())
    assert psutil.Process(copy).ppid() == kept.pid
    launcher.kill()
    launcher.communicate(timeout=60)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    psutil.wait_procs([kept], timeout=60)
    assert not repo.running(copy)
    assert not repo.running(kept.pid)
