"""What a search of so many trials is to be expected to find: the tuning curve of a model, with its confidence band.

The expected best of k trials follows from the distribution of one trial's validation score (Dodge et al. 2019, "Show
Your Work", https://arxiv.org/abs/1909.03004, equation 8). The band is that of the distribution function, which holds
for all scores at once, carried over to the expectation (Lourie, Cho and He 2023, "Show Your Work with Confidence",
https://arxiv.org/abs/2311.09480; library opda). The bootstrap is not used: of few trials it covers far less than it
says.

Assumed: trials are independent draws. Quasi-random ones are spread more evenly, so that the band is too wide for them
rather than too narrow.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.scoring.intervals import LEVEL
from pipeline.scoring.metrics import Floats

EXACT = 50  # trials; the tighter band takes seconds for more


@dataclass(frozen=True)
class TuningCurve:
    """Expected best of 1, 2, ... N trials, (N,), and the band of level 95% around it."""

    best: Floats
    low: Floats
    high: Floats


def tuning_curve(scores: Sequence[float | None], seed: int = 0) -> TuningCurve:
    """The curve of N validation scores, fractions; a trial that diverged, None, counts as 0."""
    from opda.nonparametric import EmpiricalDistribution  # late: the report alone needs it

    values = np.array([each or 0.0 for each in scores], dtype=np.float64)
    budgets = np.arange(1, len(values) + 1)
    found = EmpiricalDistribution.confidence_bands(
        values,
        LEVEL,
        a=0.0,
        b=1.0,
        generator=np.random.default_rng(seed),
        method="ld_equal_tailed" if len(values) <= EXACT else "dkw",
        n_jobs=1,  # its pool of processes is forked, which hangs now and then beside the threads of torch
    )
    high, best, low = (each.average_tuning_curve(budgets) for each in found)  # more below a score is a worse model
    return TuningCurve(best, low, high)


def orders(curves: Mapping[str, TuningCurve]) -> dict[int, list[str]]:
    """The order of models by their expected best, the highest first, after one trial and wherever it changes."""
    found: dict[int, list[str]] = {}
    for budget in range(min(len(each.best) for each in curves.values())):
        order = sorted(curves, key=lambda name: -curves[name].best[budget])
        if not found or order != list(found.values())[-1]:
            found[budget + 1] = order
    return found
