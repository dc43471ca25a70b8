"""variance: how much of a score's variance comes from seeds, from the split, from the test images."""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline.base.quantities import enumerated
from pipeline.report.found import Found
from pipeline.report.section import Section
from pipeline.report.table import Table
from pipeline.report.words import DASH
from pipeline.scoring import pairs
from pipeline.scoring.draws import UNTESTED
from pipeline.scoring.metrics import Floats
from pipeline.scoring.variance import Part, Variance, divided

RESAMPLES = 500  # of test images: a variance is known to 6% by so many
SCORE = "macro_f1"
FEW = 15  # pairs, of six models: of more, only models are shown
SOURCES = {"seeds": "Seeds", "split": "Split", "together": "Seeds and split", "images": "Test images"}
TOLD = {
    "seeds": "initialisation, order and augmentation",
    "split": "the split",
    "together": "seeds and splits together",
    "images": "the test images",
}


@dataclass(frozen=True)
class Row:
    """A model's score, or the difference of two."""

    name: str
    variance: Variance


def section(found: Found) -> Section:
    models, differences = rows(found)
    table = variance_table([*models, *(differences if len(differences) <= FEW else [])], caption(found))
    summary = [{"model": row.name} | {name: vars(each) for name, each in parts(row.variance).items()} for row in models]
    words = {"sentence": sentence(models), "fixed": fixed(found)}
    return Section("Variance", words, tables=(table,), summary={"variance": summary})


def rows(found: Found) -> tuple[list[Row], list[Row]]:
    """Of models, and of pairs of them."""
    actual, guesses = of_each_replicate(found)
    classes = len(found.data.names)
    scores, samples = pairs.resample(actual, guesses, classes, seed=0, resamples=RESAMPLES)[SCORE]
    influences = pairs.influence(actual, guesses, classes)[SCORE]  # (M, N)
    tested = guesses[0] != UNTESTED  # (R, N)
    same = (tested[:, None] == tested).all(-1)  # (R, R)
    first, second = np.array(list(combinations(range(len(guesses)), 2)), dtype=np.int64).reshape(-1, 2).T
    names = [f"{found.names[a]} vs {found.names[b]}" for a, b in zip(first, second, strict=True)]

    def made(names: list[str], scores: Floats, samples: Floats, influences: Floats) -> list[Row]:
        freedom = np.array([max(pairs.effective_number(each) - 1, 1) for each in influences])
        return [Row(*each) for each in zip(names, divided(scores, samples, freedom, splits(found), same), strict=True)]

    of_pairs = (values[first] - values[second] for values in (scores, samples, influences))
    return made(found.names, scores, samples, influences), made(names, *of_pairs)


def of_each_replicate(found: Found) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Labels (N,) and what each replicate predicts (M, R, N); a fold's model was asked of its images alone."""
    actual, answers = found.answers
    guesses = np.array(list(answers.values()))
    if not found.first.folds:
        return actual, guesses
    fold = np.repeat(range(found.replicates), [each.images for each in found.first.evaluations])  # (N,)
    own = fold == np.arange(found.replicates)[:, None]  # (R, N)
    return actual, np.where(own, guesses, UNTESTED)


def splits(found: Found) -> npt.NDArray[np.int64]:
    """The number of each replicate's split, (R,); each fold is one of its own."""
    if found.first.folds:
        return np.arange(found.replicates)
    return found.draws.split if found.draws else np.zeros(found.replicates, dtype=np.int64)


def parts(variance: Variance) -> dict[str, Part]:
    """Those that are known."""
    return {source: each for source in SOURCES if (each := getattr(variance, source))}


def variance_table(rows: list[Row], caption: str) -> Table:
    sources = [source for source in SOURCES if source in parts(rows[0].variance)]
    header = ("Of", *(SOURCES[source] for source in sources), "All of these")
    frame = pd.DataFrame(
        [
            {"of": row.name}
            | {
                f"{source}_variance{suffix}": getattr(each, field)
                for source, each in parts(row.variance).items()
                for suffix, field in (("", "value"), ("_low", "low"), ("_high", "high"))
            }
            | {"total_variance": row.variance.total}
            for row in rows
        ]
    )
    return Table("variance", caption, frame, header, tuple(cells(row, sources) for row in rows))


def cells(row: Row, sources: list[str]) -> tuple[str, ...]:
    known, total = parts(row.variance), row.variance.total
    return (row.name, *(cell(known[source], total) for source in sources), f"{total**0.5:.4f}")


def cell(part: Part, total: float) -> str:
    """0.0123 (36%) [0.0101, 0.0456]: the standard deviation, the share of the variance, and the first's interval."""
    share = f"{part.value / total:.0%}" if total else DASH
    if not part.high:  # all of the interval is below 0
        return f"{0:.4f} ({share})"
    return f"{part.value**0.5:.4f} ({share}) [{part.low**0.5:.4f}, {part.high**0.5:.4f}]"


def sentence(rows: list[Row]) -> str:
    """Of the variance of a training's macro-F1, in the mean over models, 70% comes from seeds and 30% from ..."""
    known = [row.variance for row in rows if row.variance.total]
    if not known:
        return "Of the macro-F1 of these models nothing varies."
    shares = {source: np.mean([parts(each)[source].value / each.total for each in known]) for source in parts(known[0])}
    told = enumerated([f"{share:.0%} from {TOLD[source]}" for source, share in shares.items()])
    return f"Of the variance of a training's macro-F1{', in the mean over models,' * (len(rows) > 1)} come {told}."


def fixed(found: Found) -> str:
    """What was not varied, or not apart, and how it would be."""
    if found.first.folds:
        return "Each fold has a seed and a split of its own: which of them makes the difference cannot be told."
    if found.replicates == 1:
        return "Not varied: the seed and the split, one draw of each; replicates and split.vary vary them."
    if not found.draws:
        return "Not varied: the split, which is one draw; split.vary varies it."
    if found.draws.splits == found.replicates:
        return (
            "Each replicate has a seed and a split of its own: which of them makes the difference cannot be told;"
            " split.draws gives several replicates one split."
        )
    return "All of them were varied."


def caption(found: Found) -> str:
    return (
        f"{found.tested}: what the macro-F1 of one training varies by, and the difference between two models of one"
        f" seed and split, over {found.first.n}. Of each part its standard deviation with a 95% interval, and its share"
        " of the variance. Seeds: of initialisation, order and augmentation, on the same images. Test images:"
        f" {RESAMPLES} resamples of them. A part that is estimated below 0 is 0, and has no"
        " interval where all of that is below 0."
    )
