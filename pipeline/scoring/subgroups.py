"""How much more accurate a model is on one subgroup of the test images than on another.

Shapes: R replicates, N test images, n of them in a subgroup.

The interval of a gap is of the mean over trainings and test images: Clopper and Pearson's of either accuracy over the
images that are in it, joined as those of independent shares (Zou and Donner 2008, Statistics in Medicine 27), and
Student's t of the replicates' gaps, as the sides of a box (see intervals.py). All gaps of a model are asked of at once,
so that each has the level 1 - 5% / their number (Bonferroni): the clearest was looked for. With one replicate it is
about these weights, and says nothing of another seed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from pipeline.scoring.effective import luck_of
from pipeline.scoring.intervals import LEVEL, clopper_pearson, student_t
from pipeline.scoring.metrics import Floats

FEWEST = 20  # images of a subgroup that gaps are told of

Members = npt.NDArray[np.bool_]  # (N,), which images are in a subgroup


@dataclass(frozen=True)
class Gap:
    """The accuracy on one subgroup less that on another, with the ends of its interval."""

    above: str
    below: str
    mean: float
    low: float
    high: float

    @property
    def holds(self) -> bool:
        return self.low > 0


def pairs_of(groups: Mapping[str, Members]) -> list[tuple[str, str]]:
    """The subgroups between which there is a gap to tell of."""
    return list(combinations([name for name, members in groups.items() if members.sum() >= FEWEST], 2))


def clearest_gap(right: npt.NDArray[np.bool_], groups: Mapping[str, Members], shared: float, asked: int) -> Gap | None:
    """The clearest of a model that has these images right (R, N), where so many gaps are `asked` of; None without two.

    It is the one with the highest lower end of those that hold, which a larger one of few images does not hide, and the
    largest where none holds. `shared` is the luck with all images that replicates have in common
    (`effective.shared_luck`); a subgroup has its own where that is more.
    """
    found = [_gap(right, groups, pair, shared, 1 - (1 - LEVEL) / asked) for pair in pairs_of(groups)]
    return max(found, key=lambda each: (each.holds, each.low if each.holds else each.mean), default=None)


def _gap(
    right: npt.NDArray[np.bool_], groups: Mapping[str, Members], pair: tuple[str, str], shared: float, level: float
) -> Gap:
    scores = {name: right[:, groups[name]].mean(1) for name in pair}  # (R,)
    above, below = sorted(pair, key=lambda name: -scores[name].mean())
    each, replicates = scores[above] - scores[below], len(right)
    shares = np.array([scores[above].mean(), scores[below].mean()])
    images = np.array([groups[above].sum(), groups[below].sum()])
    luck = np.array([luck_of(right[:, groups[name]], shared) for name in (above, below)])
    less, more = _sides(shares, images / (luck + (1 - luck) / replicates), level)
    if replicates > 1:
        seeds = student_t(replicates, level) * each.std(ddof=1) / np.sqrt(replicates)
        sides = _sides(shares, images / np.maximum(luck, 1e-9), level)
        less, more = max(less, float(np.hypot(sides[0], seeds))), max(more, float(np.hypot(sides[1], seeds)))
    mean = float(each.mean())
    return Gap(above, below, mean, max(mean - less, -1.0), min(mean + more, 1.0))


def _sides(shares: Floats, images: Floats, level: float) -> tuple[float, float]:
    """From the first share less the second (2,) to the ends of its interval over images."""
    low, high = clopper_pearson(shares, images, level)
    return float(np.hypot(shares[0] - low[0], high[1] - shares[1])), float(
        np.hypot(high[0] - shares[0], shares[1] - low[1])
    )
