"""`python trainings.pyz --check`: what the machine has, and whether each model of a pack would train here."""

import contextlib
import os
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path

import torch

from pipeline.anywhere.contents import Contents, Task
from pipeline.base.errors import StageError
from pipeline.base.places import FIT, replicate_folder
from pipeline.images import packed
from pipeline.inference.device import pick_device, processor
from pipeline.training.task import prepared, trainer

PACKAGES = ("torch", "torchvision", "timm", "numpy", "pandas", "scikit-learn", "safetensors", "Pillow")


def main() -> None:
    contents = Contents.open(Path(sys.argv[1]), Path(sys.argv[2]))
    print(machine())
    first = {(task.study, task.assignment["config"]["model"]): task for task in reversed(contents.tasks)}
    failed = [task for task in reversed(first.values()) if not would_run(contents, task)]
    sys.exit(bool(failed))


def machine() -> str:
    """Python, packages, processor, memory and GPUs."""
    lines = [f"Python {platform.python_version()}; {', '.join(f'{name} {version(name)}' for name in PACKAGES)}"]
    lines.append(processor())
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        lines.append(f"{torch.cuda.get_device_name(index)}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free")
    return "\n".join(lines if torch.cuda.is_available() else [*lines, "no GPU"])


def would_run(contents: Contents, task: Task) -> bool:
    """Take a step and validate a batch of a task's model, and say how long that took."""
    with contextlib.chdir(contents.study(task.study)):
        os.environ["VERSUS_HOME"] = os.getcwd()
        started = time.perf_counter()
        try:
            attempt(task)
        except (StageError, RuntimeError, ValueError, ImportError, OSError) as error:
            print(f"{task.label}: fails: {' '.join(str(error).split())[:500]}", flush=True)
            return False
    print(f"{task.label}: runs ({time.perf_counter() - started:.1f} s to a first step)", flush=True)
    return True


def attempt(task: Task) -> None:
    config = dict(task.assignment["config"])
    folder = replicate_folder(FIT, config["replicate"])
    device = pick_device(config["train"]["device"])
    made = prepared(config, folder, packed.read_info(folder), task.assignment["normalise"], device)
    training = trainer(made, config, device)
    batch = next(iter(training.batches(0)))
    training.step(batch, training.rate(0, 0), 0)
    if training.val is not None:
        training.val_logits(training.network, packed.rows(training.val, slice(0, config["train"]["batch_size"])))


if __name__ == "__main__":
    main()
