"""One job: `python -m pipeline.launch.job FOLDER` runs the stages that FOLDER/job.json names, in a clone there.

What came of it is in FOLDER/result.json: `done`, `fault` (a stage said what the user has to mend: trying again is of no
use) or `died`. FOLDER/log has all that was printed.
"""

import json
import os
import shutil
import socket
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from pipeline.base.errors import PASSING, StageError, legible
from pipeline.base.files import write_json, written_whole
from pipeline.base.places import cores
from pipeline.launch import copies, executor

RESULT, LOG, STARTED = "result.json", "log", "started.json"


def main() -> None:
    folder = Path(sys.argv[1])
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    started = time.time()
    note(folder / STARTED, {"at": started, "host": socket.gethostname()})
    sys.stdout.flush()
    log = os.open(folder / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    begin = os.fstat(log).st_size
    os.dup2(log, 1)
    os.dup2(log, 2)
    try:
        status = execute(folder, job)
    except StageError as error:
        print(f"versus: {legible(str(error))}", file=sys.stderr, flush=True)
        status = 1
    except Exception:
        traceback.print_exc()
        status = 1
    text = (folder / LOG).read_bytes()[begin:].decode(errors="replace")
    outcome, reason = ("done", "") if status == 0 else judge(text)
    note(folder / RESULT, {"outcome": outcome, "reason": reason, "seconds": time.time() - started})
    if outcome == "done":
        shutil.rmtree(folder / "clone", ignore_errors=True)
    sys.exit(status)


def execute(folder: Path, job: dict[str, Any]) -> int:
    """Make the clone, take what the stages read from the cache or the remote, run them; returns DVC's exit status."""
    os.environ.setdefault("OMP_NUM_THREADS", os.environ.get("SLURM_CPUS_PER_TASK") or str(len(cores())))
    os.environ.update({"VERSUS_HOME": job["home"], **job["environment"]})
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    home, clone = Path(job["home"]), folder / "clone"
    copies.clone(home, job["head"], job["commit"], clone)
    study = clone / job["study"]
    for name in ("params.yaml", "dvc.lock"):
        shutil.copyfile(folder.parent / name, study / name)
    copies.configure(study, home / job["study"], job["dvc"], folder / "clone/.dvc/tmp/site")
    os.chdir(study)
    executor.forget_source()  # stages run the clone's code

    from dvc.cli import main as dvc

    status = dvc(["pull" if job["through_remote"] else "checkout", *job["needs"]])
    status = status or dvc(["repro", "--single-item", *job["targets"]])
    return status or (dvc(["push", "--run-cache", *job["targets"]]) if job["through_remote"] else 0)


def judge(text: str) -> tuple[str, str]:
    """Whether a log says that a stage found a fault, or that something died, and the line that says it."""
    lines = [line for line in text.splitlines() if line.strip()]
    said = [line for line in lines if line.startswith("versus: ")]
    if said and not any(line.startswith("Traceback ") for line in lines):
        for status, outcome in ((1, "fault"), (PASSING, "died")):
            if any(line.rstrip().endswith(f"exited with {status}") for line in lines):
                return outcome, said[-1].removeprefix("versus: ")
    return "died", next((line for line in reversed(lines) if "ERROR" in line), lines[-1] if lines else "")


def note(path: Path, content: object) -> None:
    with written_whole(path) as partial:
        write_json(partial, content)


if __name__ == "__main__":
    main()
