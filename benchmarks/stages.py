"""Seconds that DVC takes to find nothing to do, and to write results down, one by one and at once, in N stages.

`python -m benchmarks.stages N...`: half of the stages train, half evaluate, over models and five replicates as
dvc.yaml's do, with the code files and the parameters that it names; commands do nothing. CPU seconds of whole
commands, which are what a machine at rest waits.
"""

import hashlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).parent.parent
REPLICATES = 5
KINDS = {"train": ("data/fit", "models"), "evaluate": ("models", "reports/evaluations")}  # stage -> reads, leaves


def study(folder: Path, stages: int) -> None:
    """A study that has run: params.yaml, dvc.yaml, dvc.lock, code, and outputs of some bytes, in the cache too."""
    real = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]
    models = {f"m{index}": {"depth": index} for index in range(stages // len(KINDS) // REPLICATES)}
    params = {"models": models, "replicates": list(range(REPLICATES))}
    (folder / "params.yaml").write_text(json.dumps(params))
    known: dict[str, dict[str, Any]] = {}

    def file(path: str) -> str:
        if path not in known:
            digest = hashlib.md5(path.encode()).hexdigest()
            for target in (folder / path, folder / ".dvc/cache/files/md5" / digest[:2] / digest[2:]):
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(path)
            known[path] = {"path": path, "hash": "md5", "md5": digest, "size": len(path)}
        return path

    config: dict[str, Any] = {}
    lock: dict[str, Any] = {}
    for kind, (reads, leaves) in KINDS.items():
        code = [path.removeprefix("${root}/") for path in real[kind]["deps"] if path.startswith("${root}/")]
        each = "/${item.model}-${item.replicate}"
        config[kind] = {
            "matrix": {"model": "${models}", "replicate": "${replicates}"},
            "cmd": "true ${item.model} ${item.replicate}",
            "deps": [*code, reads + each * (reads == "models")],
            "params": ["models.${item.model}"],
            "outs": [leaves + each],
        }
        for model, settings in models.items():
            for replicate in range(REPLICATES):
                name = f"{model}-{replicate}"
                deps = sorted([*code, reads + f"/{name}" * (reads == "models")])
                lock[f"{kind}@{name}"] = {
                    "cmd": f"true {model} {replicate}",
                    "deps": [known[file(path)] for path in deps],
                    "params": {"params.yaml": {f"models.{model}": settings}},
                    "outs": [known[file(f"{leaves}/{name}")]],
                }
    (folder / "dvc.yaml").write_text(json.dumps({"stages": config}))
    with (folder / "dvc.lock").open("w") as target:
        YAML(typ="safe").dump({"schema": "2.0", "stages": json.loads(json.dumps(lock))}, target)  # no anchors


def cpu(folder: Path, *command: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert "up to date" in done.stdout, done.stdout[-1000:]
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def recording(folder: Path) -> tuple[float, float]:
    """CPU seconds in which DVC writes into dvc.lock what one stage made, and what all made, in one go."""
    from dvc.repo import Repo

    with Repo(str(folder)) as repo, repo.lock:
        stages = sorted(repo.index.stages, key=lambda stage: stage.name)
        took = []
        for each in (stages[:1], stages):
            before = time.process_time()
            stages[0].dvcfile.dump_stages(each, update_pipeline=False)
            took.append(time.process_time() - before)
        return took[0], took[1]


def main() -> None:
    for stages in map(int, sys.argv[1:]):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
            subprocess.run(["dvc", "init", "--quiet"], cwd=folder, check=True)
            study(folder, stages)
            lock = (folder / "dvc.lock").stat().st_size / 1e6
            cpu(folder, "dvc", "status")  # hashes what it has not seen
            status, noop = (cpu(folder, "dvc", command) for command in ("status", "repro"))
            one, together = recording(folder)
            print(
                f"{stages} stages: dvc status {status:.1f} CPU s, dvc repro with nothing to do {noop:.1f} CPU s,"
                f" to record them one by one {stages * one:.1f} CPU s ({one:.2f} each), at once {together:.2f} CPU s;"
                f" dvc.lock {lock:.1f} MB",
                flush=True,
            )


if __name__ == "__main__":
    main()
