"""Whether two runs of a study agree, from what git keeps of them: `versus verify COMMITTED RERUN`.

Neither data nor weights are needed: digests of the images, settings, the history of every training, every test image's
probabilities, the digest of the weights and the scores are compared. What differs is said with by how much, and so are
processor, device and libraries where they do.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.base.errors import StageError, legible
from pipeline.params.read import flatten, load_params
from pipeline.report.results import BEFORE
from pipeline.trained.leftovers import trainings

Evaluations = Sequence[tuple[str, Mapping[str, Any], Mapping[str, Any]]]  # training, the committed one, the rerun's
SCORES = ("accuracy", "macro_f1", "weighted_f1", "balanced_accuracy")


def verify(committed: Path, rerun: Path, tolerance: float = 0.0) -> bool:
    """Print what differs; whether no mean score differs by more than `tolerance` and nothing else that it rests on.

    With a tolerance above 0, histories, probabilities and weights may differ: other processors round otherwise.
    """
    for folder in (committed, rerun):
        if not folder.is_dir():
            raise StageError(f"{folder}: not a folder; give those of two runs of a study")
    faults = [*differing_data(committed, rerun)]
    names = _names(committed, rerun)
    evaluations = _evaluations(committed, rerun, names)
    faults += differing_settings(evaluations)
    rounding = [*differing_histories(committed, rerun, names), *differing_predictions(committed, rerun, names)]
    rounding += differing_weights(evaluations)
    scores, worst = differing_scores(committed, rerun)
    for line in (*faults, *rounding, *scores):
        print(legible(line))
    for line in differing_machines(evaluations):
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


def differing_settings(evaluations: Evaluations) -> Iterator[str]:
    for name, ours, theirs in evaluations:
        ours, theirs = (BEFORE | flatten(each["config"]) for each in (ours, theirs))
        for key in sorted({*ours, *theirs}):
            if ours.get(key) != theirs.get(key):
                yield f"{name}: {key} is {ours.get(key)!r}, {theirs.get(key)!r}"


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


def differing_predictions(committed: Path, rerun: Path, names: Sequence[str]) -> Iterator[str]:
    for name in names:
        ours, theirs = (_csv(folder, f"predictions/{name}.csv") for folder in (committed, rerun))
        if list(ours) != list(theirs) or not ours["actual"].equals(theirs["actual"]):
            yield f"{name}: predictions of other test images"
            continue
        other = int((ours["predicted"] != theirs["predicted"]).sum())
        columns = [column for column in ours if str(column).startswith("p(")]
        gap = float(np.nanmax((_numbers(ours[columns]) - _numbers(theirs[columns])).abs(), initial=0.0))
        if other or gap:
            yield f"{name}: {other} of {len(ours)} test images change class, probabilities differ by up to {gap:.3g}"


def differing_weights(evaluations: Evaluations) -> Iterator[str]:
    """Where both say what their weights are: evaluations of earlier versions do not."""
    for name, ours, theirs in evaluations:
        digests = [each["run"].get("weights_sha256") for each in (ours, theirs)]
        if None not in digests and digests[0] != digests[1]:
            yield f"{name}: other weights (SHA-256 {_short(digests[0])}, {_short(digests[1])})"


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


def differing_machines(evaluations: Evaluations) -> Iterator[str]:
    seen: dict[str, None] = {}
    for _, ours, theirs in evaluations:
        for key in sorted({*ours["machine"], *theirs["machine"]}):
            first, second = ours["machine"].get(key), theirs["machine"].get(key)
            if first != second:
                seen[f"{key} {first}, {second}"] = None
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


def _evaluations(committed: Path, rerun: Path, names: Sequence[str]) -> Evaluations:
    def read(folder: Path, name: str) -> dict[str, Any]:
        return _json(folder, f"evaluations/{name}.json", "config", "machine", "run")

    return [(name, read(committed, name), read(rerun, name)) for name in names]


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
        raise StageError(
            f"{path}: not readable as JSON with {' and '.join(keys)}; `git checkout` brings the committed one back"
        ) from None
    return found


def _csv(folder: Path, name: str) -> pd.DataFrame:
    path = folder / "reports" / name
    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False)  # as Python reads numbers, to the last bit
    except FileNotFoundError:
        raise StageError(f"{path}: not found; run `dvc repro` there") from None
    except (ValueError, UnicodeDecodeError):
        raise StageError(f"{path}: not readable as CSV; `git checkout` brings the committed one back") from None


def _numbers(table: pd.DataFrame) -> pd.DataFrame:
    return table.replace("", "nan").astype(float)


def _short(digest: object) -> str:
    return str(digest)[:12]
