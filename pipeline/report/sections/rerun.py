"""rerun: how to repeat the study, and how long it took."""

from collections.abc import Sequence

from pipeline.report import words
from pipeline.report.results import Model
from pipeline.report.words import enumerated


def effort(models: Sequence[Model]) -> list[tuple[str, str]]:
    """What was run, on what, for how long."""
    evaluations = [evaluation for model in models for evaluation in model.evaluations]
    machines = [evaluation["machine"] for evaluation in evaluations]
    starts = [evaluation["run"]["started"] for evaluation in evaluations]
    commits = list(dict.fromkeys(evaluation["run"]["commit"] or "unknown" for evaluation in evaluations))
    epochs = list(dict.fromkeys(str(evaluation["cost"]["epochs"]) for evaluation in evaluations))

    def named(key: str, unit: str = "") -> str:
        return enumerated(list(dict.fromkeys(f"{machine[key]}{unit}" for machine in machines)))

    versions = [
        f"{title} {named(key)}" for key, title in (("torch", "PyTorch"), ("timm", "timm"), ("python", "Python"))
    ]
    return [
        (
            "Trainings",
            f"{len(evaluations)} ({len(models)} models × {models[0].n.removeprefix('n = ')}),"
            f" {enumerated(epochs)} epochs each",
        ),
        ("Training time", words.duration(sum(evaluation["cost"]["train_seconds"] for evaluation in evaluations))),
        ("Started", f"{min(starts)[:16].replace('T', ' ')} to {max(starts)[:16].replace('T', ' ')} UTC"),
        ("Code", f"commit {enumerated(commits)}"),
        ("Device", named("device")),
        ("Processor", f"{named('processor')}; {named('threads')} threads"),
        ("Precision", named("precision")),
        ("Software", ", ".join(versions)),
    ]
