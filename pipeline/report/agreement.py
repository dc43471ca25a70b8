"""Whether two runs of a study agree, from what git keeps of them: `versus verify COMMITTED RERUN`.

Neither data nor weights are needed: digests of the images, settings, the history of every training, every test image's
class and probabilities, the digests of weights and logits and the scores are compared. What differs is said with by how
much, and so are processor, device and libraries where they do.
"""

import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import softmax

from pipeline.base.errors import StageError, legible
from pipeline.base.files import sha256
from pipeline.params.read import flatten, load_params
from pipeline.records.diary import read_record
from pipeline.records.evaluation import Evaluation
from pipeline.records.predictions import Floats, Predictions, logits_path, predictions_path
from pipeline.report.results import BEFORE
from pipeline.scoring.metrics import SCORES
from pipeline.trained.leftovers import trainings

BACK = "`git checkout` brings the committed one back, and `dvc repro` makes it anew"


@dataclasses.dataclass(frozen=True)
class Evaluated:
    """A training as the committed study and the rerun evaluated it."""

    name: str
    ours: Evaluation
    theirs: Evaluation


def verify(committed: Path, rerun: Path, tolerance: float = 0.0) -> bool:
    """Print what differs; whether no mean score differs by more than `tolerance` and nothing else that it rests on.

    With a tolerance above 0, histories, probabilities and weights may differ: other processors round otherwise.
    """
    for folder in (committed, rerun):
        if not folder.is_dir():
            raise StageError(f"{folder}: not a folder; give those of two runs of a study")
    faults = [*differing_data(committed, rerun)]
    names = _names(committed, rerun)
    evaluated = [
        Evaluated(name, *(_evaluation(folder / f"reports/evaluations/{name}.json") for folder in (committed, rerun)))
        for name in names
    ]
    faults += differing_settings(evaluated)
    rounding = [*differing_histories(committed, rerun, names), *differing_predictions(committed, rerun, evaluated)]
    rounding += differing_weights(evaluated)
    scores, worst = differing_scores(committed, rerun)
    for line in (*faults, *rounding, *scores):
        print(legible(line))
    for line in differing_machines(evaluated):
        print(f"(made on another machine: {legible(line)})")
    if not (faults or rounding or scores):
        print("verify: the same to the last bit that git keeps")
        return True
    held = not faults and (tolerance > 0 or not rounding) and worst <= tolerance
    allowed, other = f"tolerance {tolerance:g}", ", for images or settings are others" if faults else ""
    print(
        f"verify: the largest difference of a mean score is {worst:.4f} ({allowed}):"
        f" {'held' if held else f'not held{other}'}"
    )
    return held


def differing_data(committed: Path, rerun: Path) -> Iterator[str]:
    ours, theirs = (_json(folder, "data.json", "digests")["digests"] for folder in (committed, rerun))
    for name in sorted({*ours, *theirs}):
        if ours.get(name) != theirs.get(name):
            yield f"data: other {name} images (digest {_short(ours.get(name))}, {_short(theirs.get(name))})"


def differing_settings(evaluated: Sequence[Evaluated]) -> Iterator[str]:
    for training in evaluated:
        ours, theirs = (BEFORE | flatten(each.config) for each in (training.ours, training.theirs))
        for key in sorted({*ours, *theirs}):
            if ours.get(key) != theirs.get(key):
                yield f"{training.name}: {key} is {ours.get(key)!r}, {theirs.get(key)!r}"


def differing_histories(committed: Path, rerun: Path, names: Sequence[str]) -> Iterator[str]:
    for name in names:
        ours, theirs = (_csv(folder, f"histories/{name}.csv") for folder in (committed, rerun))
        if len(ours) != len(theirs):
            yield f"{name}: {len(ours)} epochs, {len(theirs)}"
            continue
        shared = [column for column in ours if column in theirs]
        gap = (_numbers(ours[shared]) - _numbers(theirs[shared])).abs()
        apart = gap.gt(0).any(axis=1)
        if apart.any():
            column = str(gap.max().idxmax())
            yield (
                f"{name}: training differs from epoch {int(apart.to_numpy().argmax()) + 1} on, {column} by up to"
                f" {gap[column].max():.3g}"
            )


def differing_predictions(committed: Path, rerun: Path, evaluated: Sequence[Evaluated]) -> Iterator[str]:
    """Classes and probabilities, to the last bit where both evaluations have a digest of the logits."""
    for training in evaluated:
        name, sides = training.name, ((committed, training.ours), (rerun, training.theirs))
        ours, theirs = (Predictions.read(predictions_path(name, folder)) for folder, _ in sides)
        if ours.classes != theirs.classes or not np.array_equal(ours.actual, theirs.actual):
            yield f"{name}: predictions of other test images"
            continue
        other = int((ours.predicted != theirs.predicted).sum())
        digests = {evaluation.logits_sha256 for _, evaluation in sides}
        gap = max(_gap(ours.confidence, theirs.confidence), _gap(ours.probabilities, theirs.probabilities))
        if other or gap or (len(digests) == 2 and "" not in digests):
            full = [_full_probabilities(logits_path(name, folder), each.logits_sha256) for folder, each in sides]
            if full[0] is not None and full[1] is not None:
                gap = _gap(full[0], full[1])
            size = f"up to {gap:.3g}" if gap else "too little for the digits that git keeps"
            yield f"{name}: {other} of {len(ours.actual)} test images change class, probabilities differ by {size}"


def _gap(ours: Floats, theirs: Floats) -> float:
    """The largest difference; between something and nothing it is infinite."""
    undefined = np.isnan(ours) & np.isnan(theirs)
    return float(np.nan_to_num(np.where(undefined, 0, abs(ours - theirs)), nan=np.inf).max(initial=0.0))


def _full_probabilities(logits: Path, digest: str) -> Floats | None:
    """All digits of the probabilities (N, K), where the logits with this digest lie beside the results."""
    if not logits.is_file() or sha256(logits) != digest:
        return None
    return softmax(np.load(logits).astype(np.float64), axis=1)


def differing_weights(evaluated: Sequence[Evaluated]) -> Iterator[str]:
    """Where both say what their weights are: evaluations of earlier versions do not."""
    for training in evaluated:
        digests = [each.run.weights_sha256 for each in (training.ours, training.theirs)]
        if "" not in digests and digests[0] != digests[1]:
            yield f"{training.name}: other weights (SHA-256 {_short(digests[0])}, {_short(digests[1])})"


def differing_scores(committed: Path, rerun: Path) -> tuple[list[str], float]:
    """Lines, and the largest difference of a mean score."""
    ours, theirs = (_json(folder, "metrics.json", "models")["models"] for folder in (committed, rerun))
    lines, worst = [], 0.0
    for model in (model for model in ours if model in theirs):
        for score in SCORES:
            first, second = (each[model][score]["mean"] for each in (ours, theirs))
            if first != second:
                worst = max(worst, abs(second - first))
                low, high = ours[model][score].get("low"), ours[model][score].get("high")
                inside = low is not None and high is not None and low <= second <= high
                where = ", within the committed 95% interval" if inside else ""
                lines.append(f"{model}: {score} {first:.4f}, {second:.4f} ({second - first:+.4f}{where})")
    return lines, worst


def differing_machines(evaluated: Sequence[Evaluated]) -> Iterator[str]:
    seen: dict[str, None] = {}
    for training in evaluated:
        ours, theirs = (vars(each.machine) for each in (training.ours, training.theirs))
        for key in sorted(ours):
            if ours[key] != theirs[key]:
                seen[f"{key} {ours[key]}, {theirs[key]}"] = None
    yield from seen


def _names(committed: Path, rerun: Path) -> list[str]:
    """The trainings that both name in their params.yaml; a StageError if one lacks any, or its results."""
    ours, theirs = (set(trainings(load_params(folder / "params.yaml"))) for folder in (committed, rerun))
    for folder, lacking in ((committed, theirs - ours), (rerun, ours - theirs)):
        if lacking:
            raise StageError(f"{folder}: its params.yaml has no {_some(lacking)}; give two runs of one study")
    for folder in (committed, rerun):
        found = {path.stem for path in (folder / "reports/evaluations").glob("*.json")}
        if not found:
            raise StageError(f"{folder}: no study with results (reports/evaluations is empty or missing)")
        if lacking := ours - found:
            raise StageError(f"{folder}: has no evaluation of {_some(lacking)}; run `dvc repro` there")
    return sorted(ours)


def _some(names: set[str]) -> str:
    """The first names, and how many more there are."""
    return ", ".join(sorted(names)[:6]) + f" and {len(names) - 6} more" * (len(names) > 6)


def _evaluation(path: Path) -> Evaluation:
    return read_record(Evaluation, path, BACK)


def _json(folder: Path, name: str, *keys: str) -> dict[str, Any]:
    """A file of reports/; raises StageError where it is missing, damaged, or without one of the `keys`."""
    path = folder / "reports" / name
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if lacking := [key for key in keys if key not in dict(found)]:
            raise ValueError(lacking)
    except FileNotFoundError:
        raise StageError(f"{path}: not found; give the folders of two studies that have run") from None
    except (OSError, ValueError, TypeError):
        raise StageError(f"{path}: not readable as JSON with {' and '.join(keys)}; {BACK}") from None
    return found


def _csv(folder: Path, name: str) -> pd.DataFrame:
    path = folder / "reports" / name
    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False)  # as Python reads numbers, to the last bit
    except FileNotFoundError:
        raise StageError(f"{path}: not found; run `dvc repro` there") from None
    except (ValueError, UnicodeDecodeError):
        raise StageError(f"{path}: not readable as CSV; {BACK}") from None


def _numbers(table: pd.DataFrame) -> pd.DataFrame:
    return table.replace("", "nan").astype(float)


def _short(digest: object) -> str:
    return str(digest)[:12]
