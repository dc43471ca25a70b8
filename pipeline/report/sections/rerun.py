"""rerun: how to repeat the study, and how long it took."""

import shlex
from pathlib import Path

from pipeline.base.places import checkout
from pipeline.base.quantities import duration
from pipeline.report import commits
from pipeline.report.found import Found, each_once
from pipeline.report.section import Section
from pipeline.report.words import counted


def section(found: Found) -> Section:
    starts = [evaluation.run.started[:16].replace("T", " ") for evaluation in found.evaluations]
    machines = {
        name: each_once(str(getattr(evaluation.machine, name)) for evaluation in found.evaluations)
        for name in ("device", "processor", "threads", "precision", "torch", "timm", "python")
    }
    words = {
        "command": command(found),
        "epochs": each_once(counted(evaluation.cost.epochs, "epoch") for evaluation in found.evaluations),
        "seconds": duration(sum(evaluation.cost.train_seconds for evaluation in found.evaluations)),
        "started": (min(starts), max(starts)),
        "commits": commits.named(found.evaluations, found),
        "machines": machines,
    }
    return Section("Run and rerun", words)


def command(found: Found) -> str:
    """What runs the study again, from the root of the repository."""
    return "dvc repro" if Path.cwd() == checkout() else f"cd {shlex.quote(f'studies/{found.study}')} && dvc repro"
