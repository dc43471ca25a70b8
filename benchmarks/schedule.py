"""How busy 8 GPUs are with 40 trainings of measured length, in the order in which `versus launch` starts them.

`python -m benchmarks.schedule [STUDY]`: eight models of a study that has run, five replicates each, whose seconds are
those in its reports/evaluations; models with epochs of their own, of another protocol than the rest, are left out.
Before each training a worker makes a clone and starts Python and DVC, and after it evaluates and records (OVERHEAD,
measured). A GPU counts as busy while it trains.
"""

import heapq
import random
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline.launch import plan
from pipeline.params.read import load_params

STUDY = Path(__file__).parent.parent / "studies/cifar10_efficient"
WORKERS, MODELS, REPLICATES = 8, 8, 5
OVERHEAD = 15.0  # seconds of a job that are not its training: clone, checkout, imports, evaluation, recording


def schedule(seconds: Sequence[float], workers: int, overhead: float) -> tuple[float, list[float]]:
    """Each worker takes the next training when it is free: the time until all are done, and each worker's training."""
    free = [(0.0, worker) for worker in range(workers)]
    trained = [0.0] * workers
    for length in seconds:
        now, worker = heapq.heappop(free)
        trained[worker] += length
        heapq.heappush(free, (now + overhead + length, worker))
    return max(free)[0], trained


def busy(seconds: Sequence[float], workers: int = WORKERS, overhead: float = OVERHEAD) -> float:
    """The share of the workers' time until the last training is done in which they train."""
    end, trained = schedule(seconds, workers, overhead)
    return sum(trained) / (workers * end)


def trainings(study: Path) -> list[float]:
    """Seconds of the 40 trainings in launch's own order: `plan.longest_first`."""
    measured = plan.expected(study)
    models = load_params(study / "params.yaml").models
    alike = [model for model in sorted(measured) if model in models and "epochs" not in models[model].train][:MODELS]
    if not alike:
        raise SystemExit(
            f"schedule: {study} has no evaluation of a model without epochs of its own; run `dvc repro` there"
        )
    groups = [plan.Group(f"{model}-{replicate}", [], []) for model in alike for replicate in range(REPLICATES)]
    return [measured[group.key.rpartition("-")[0]] for group in plan.longest_first(groups, measured)]


def main() -> None:
    study = Path(sys.argv[1]) if len(sys.argv) > 1 else STUDY
    ordered = trainings(study)
    rng = random.Random(0)
    shuffled = [busy(rng.sample(ordered, len(ordered))) for _ in range(1000)]
    lengths = f"{len(ordered)} trainings of {min(ordered):.0f} to {max(ordered):.0f} s"
    print(f"{study.name}: {lengths}, {WORKERS} workers, {OVERHEAD:.0f} s a job")
    print(f"longest first   {busy(ordered):.1%} busy, all done after {schedule(ordered, WORKERS, OVERHEAD)[0]:.0f} s")
    print(f"in any order    {statistics.mean(shuffled):.1%} (lowest {min(shuffled):.1%} of {len(shuffled)} orders)")
    print(f"shortest first  {busy(ordered[::-1]):.1%}")
    print(f"longest first, no overhead  {busy(ordered, overhead=0):.1%}")


if __name__ == "__main__":
    main()
