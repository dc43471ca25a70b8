"""Nothing to do: seconds of `dvc repro` in a study of 60,000 images that has run, against the same with trivial
commands and empty data.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from benchmarks.bench import Row, compare, few, seconds

ROOT = Path(__file__).parent.parent
IMAGE = 32 * 32 * 3
SIZES = {  # bytes of a study of CIFAR-10; all else is 4 KB a file
    "data/raw": {"pixels.bin": 60_000 * IMAGE, "index.csv": 2_600_000},
    "data/fit": {"train_images.npy": 45_000 * IMAGE, "val_images.npy": 5_000 * IMAGE, "val_labels.npy": 40_000},
    "data/test": {"images.npy": 10_000 * IMAGE, "labels.npy": 80_000},
    "models": {"weights.safetensors": 45_000_000, "val_logits.npy": 200_000, "config.json": 4096, "run.json": 4096},
}
PACKED = ("data/fit", "data/test")  # with a folder for each replicate


def study(folder: Path, full: bool) -> None:
    """The default study as it stands after a run, with data of real sizes or with empty files and `true` to run."""
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "pipeline", folder / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    stages = YAML(typ="safe").load(folder / "dvc.yaml")["stages"]
    settings = YAML(typ="safe").load(folder / "params.yaml")
    if not full:
        text = (folder / "dvc.yaml").read_text(encoding="utf-8").splitlines()
        trivial = [line.split("cmd:")[0] + "cmd: 'true'" if line.lstrip().startswith("cmd:") else line for line in text]
        (folder / "dvc.yaml").write_text("\n".join(trivial), encoding="utf-8")
    for stage in (each for name, each in stages.items() if name != "source"):  # which runs below
        for out in outputs(stage):
            for model in settings["models"]:
                for replicate in settings["replicates"]:
                    if out in PACKED:
                        leave(folder / out / str(replicate), SIZES[out], full)
                        continue
                    path = out.replace("${item.model}", model).replace("${item.replicate}", str(replicate))
                    if "${" in path:  # of a trial, of which there are none
                        continue
                    leave(folder / path, SIZES.get(path, SIZES.get(path.split("/")[0], {})), full)
    for path in inside(stages):  # a file of an output, which a stage of its own reads
        for model in settings["models"]:
            for replicate in settings["replicates"]:
                named = path.replace("${item.model}", model).replace("${item.replicate}", str(replicate))
                if "${" not in named and not (folder / named).exists():
                    leave(folder / named, {}, full)
    for command in (
        f"{sys.executable} -m pipeline.stages.source",  # it runs every time: what it leaves has to be true
        "git init --quiet",
        "dvc init --quiet",
        f"cp {ROOT}/.dvc/config .dvc",
        "dvc commit --force --quiet",
    ):
        subprocess.run(command.split(), cwd=folder, check=True, stdout=subprocess.DEVNULL)


def outputs(stage: dict[str, Any]) -> list[str]:
    found = [entry for kind in ("outs", "metrics", "plots") for entry in stage.get(kind, [])]
    return [entry if isinstance(entry, str) else next(iter(entry)) for entry in found]


def inside(stages: dict[str, dict[str, Any]]) -> list[str]:
    """What stages depend on of a folder that another stage makes, by name; the stage source makes its own."""
    made = {out for stage in stages.values() for out in outputs(stage)}
    named = {path for stage in stages.values() for path in stage["deps"]}
    others = made - {"data/code", "data/weights"}
    return sorted(path for path in named - made if {str(parent) for parent in Path(path).parents} & others)


def leave(path: Path, sizes: dict[str, int], full: bool) -> None:
    """A file, or a folder with files of these sizes; all empty unless `full`."""
    if path.suffix:
        sizes = {path.name: 4096}
        path = path.parent
    path.mkdir(parents=True, exist_ok=True)
    for name, size in (sizes or {"content": 4096}).items():
        (path / name).write_text(" " * min(size, 4096) * full)
        os.truncate(path / name, size * full // few(1, 1000))


def rows() -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as ours, tempfile.TemporaryDirectory() as peer:
        for name, full in ((ours, True), (peer, False)):
            study(Path(name), full)

        def repro(folder: str) -> float:
            command = ["dvc", "repro"]
            said = ""

            def run() -> None:
                nonlocal said
                said = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout

            spent = seconds(run)
            assert "Running stage" not in said.replace("Running stage 'source'", ""), said
            return spent

        what = "`dvc repro` with nothing to do, 60,000 images"
        yield compare(what, "s", lambda: repro(ours), lambda: repro(peer), "<= 1.1")
