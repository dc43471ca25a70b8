"""Seconds that DVC takes to find nothing to do, and to write one stage's result down, in a study of N stages.

`python -m benchmarks.stages N...`: half of the stages train, half evaluate, each with 22 files of code, as the studies
here have; nothing runs. CPU seconds of a whole `dvc repro` and `dvc status`, which are what a machine at rest waits.
"""

import hashlib
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

CODE = 22


def study(folder: Path, stages: int) -> None:
    """A study that has run: dvc.yaml, dvc.lock, code, outputs."""
    code = {f"code/{index}.py": f"code = {index}\n" for index in range(CODE)}
    names = [f"m{index}-0" for index in range(stages // 2)]
    outs = {f"{kind}/{name}": f"{kind} {name}\n" for kind in ("models", "scores") for name in names}
    for path, text in (code | outs).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)

    def entry(path: str) -> dict[str, Any]:
        content = (folder / path).read_bytes()
        return {"path": path, "hash": "md5", "md5": hashlib.md5(content).hexdigest(), "size": len(content)}

    known = {path: entry(path) for path in code | outs}
    config, lock = {}, {}
    for kind, reads in (("train", None), ("evaluate", "models")):
        deps = [*code, *([reads + "/${item}"] if reads else [])]
        out = "models" if kind == "train" else "scores"
        config[kind] = {"foreach": names, "do": {"cmd": "true ${item}", "deps": deps, "outs": [out + "/${item}"]}}
        for name in names:
            read = sorted(path.replace("${item}", name) for path in deps)
            lock[f"{kind}@{name}"] = {
                "cmd": f"true {name}",
                "deps": [known[path] for path in read],
                "outs": [known[f"{out}/{name}"]],
            }
    (folder / "dvc.yaml").write_text(json.dumps({"stages": config}))
    (folder / "dvc.lock").write_text(json.dumps({"schema": "2.0", "stages": lock}))


def cpu(folder: Path, *command: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    for stages in map(int, sys.argv[1:]):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
            subprocess.run(["dvc", "init", "--quiet"], cwd=folder, check=True)
            study(folder, stages)
            cpu(folder, "dvc", "status")  # hashes what it has not seen
            noop = cpu(folder, "dvc", "repro", "--dry")
            lock = (folder / "dvc.lock").stat().st_size / 1e6
            print(f"{stages} stages: dvc repro with nothing to do {noop:.1f} CPU s, dvc.lock {lock:.1f} MB", flush=True)


if __name__ == "__main__":
    main()
