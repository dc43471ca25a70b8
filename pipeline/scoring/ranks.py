"""Models over several data sets: mean ranks, whether they differ, and which pairs do (Demsar 2006, JMLR 7).

Mean ranks are compared by Friedman's test and Nemenyi's critical difference. Verdicts on pairs are those of Wilcoxon's
signed-rank test, corrected by Holm, as Benavoli et al. advise (2016, JMLR 17): by mean ranks, whether two models differ
depends on which others are beside them. A data set counts once, however many trainings its scores are the mean of.

Shapes: D data sets, M models.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from pipeline.scoring.intervals import LEVEL
from pipeline.scoring.metrics import Floats
from pipeline.scoring.pairs import Verdict, holm

ALPHA = 1 - LEVEL


@dataclass(frozen=True)
class RankPair:
    """Two models over all data sets: how often the first is ahead, level and behind, and whether that holds."""

    model: str
    other: str
    wins: int
    ties: int
    losses: int
    median: float  # difference of scores
    p: float
    holm: float
    verdict: Verdict


@dataclass(frozen=True)
class Ranks:
    """What the scores (D, M) of models on data sets say of the models."""

    models: tuple[str, ...]
    scores: Floats  # (D, M)
    means: Floats  # (M,), mean ranks, 1 the best
    needed: int  # data sets without which no outcome whatever would make any pair differ
    friedman: float  # p; NaN of two models, for which it is the sign test
    critical: float  # difference of mean ranks
    pairs: tuple[RankPair, ...]

    @property
    def enough(self) -> bool:
        """Whether there are so many data sets that a verdict is possible at all."""
        return len(self.scores) >= self.needed


def compared(models: Sequence[str], scores: Floats) -> Ranks:
    """Rank models on each data set by scores (D, M), the higher the better, and compare them."""
    count = len(models)
    return Ranks(
        models=tuple(models),
        scores=scores,
        means=stats.rankdata(-scores, axis=1).mean(0),
        needed=needed(count),
        friedman=friedman(scores) if count > 2 else math.nan,
        critical=critical_difference(count, len(scores)),
        pairs=tuple(signed_rank_pairs(models, scores)),
    )


def needed(models: int) -> int:
    """The fewest data sets with which Wilcoxon's test can, after Holm, find the clearest of all outcomes at 5%.

    That outcome, one model ahead on every data set, has p = 2 / 2^D, times as many as there are pairs.
    """
    return math.ceil(math.log2(2 * math.comb(models, 2) / ALPHA))


def friedman(scores: Floats) -> float:
    """The p-value of all models (D, M) being equally good; 1 where every model is level on every data set."""
    if (scores == scores[:, :1]).all():
        return 1.0
    return float(stats.friedmanchisquare(*scores.T).pvalue)


def critical_difference(models: int, sets: int) -> float:
    """Nemenyi's at 5%: mean ranks that lie closer together cannot be told apart."""
    q = stats.studentized_range.ppf(LEVEL, models, np.inf) / math.sqrt(2)
    return float(q * math.sqrt(models * (models + 1) / (6 * sets)))


def signed_rank_pairs(models: Sequence[str], scores: Floats) -> list[RankPair]:
    """Every pair of models by Wilcoxon's signed-rank test; level scores count half for either side."""
    places = list(itertools.combinations(range(len(models)), 2))
    apart = [scores[:, first] - scores[:, second] for first, second in places]
    p = np.array([stats.wilcoxon(each, zero_method="zsplit").pvalue if each.any() else 1.0 for each in apart])
    return [
        RankPair(
            model=models[first],
            other=models[second],
            wins=int((each > 0).sum()),
            ties=int((each == 0).sum()),
            losses=int((each < 0).sum()),
            median=float(np.median(each)),
            p=float(raw),
            holm=float(adjusted),
            verdict=verdict(each, float(adjusted)),
        )
        for (first, second), each, raw, adjusted in zip(places, apart, p, holm(p), strict=True)
    ]


def verdict(differences: Floats, p: float) -> Verdict:
    """What a corrected p says of the differences (D,); their ranks say which way."""
    if p > ALPHA:
        return "not distinguishable"
    ranked = stats.rankdata(np.abs(differences)) * np.sign(differences)
    return "better" if ranked.sum() > 0 else "worse"
