"""Trained models as they were evaluated: their folders, and what they say of images that they were not trained on.

Shapes: N images, K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.special import softmax

from pipeline.base.errors import StageError
from pipeline.base.files import sha256
from pipeline.base.places import FIT, TEST, replicate_folder
from pipeline.images.manifest import image_names
from pipeline.records.evaluation import Evaluation
from pipeline.records.predictions import logits_path

Floats = npt.NDArray[np.float64]
EVALUATIONS = Path("reports/evaluations")


def evaluated(name: str) -> Path:
    """The folder of a trained model whose weights are those that evaluate scored; raises StageError if others are.

    DVC compares reports/evaluations alone, which name the weights: models/ also holds what params.yaml names no more.
    """
    folder, path = Path("models") / name, EVALUATIONS / f"{name}.json"
    remedy = f"run `dvc checkout {folder}` or `dvc repro evaluate@{name}` in the study's folder"
    scored = Evaluation.read(path).run.weights_sha256
    try:
        digest = sha256(folder / "weights.safetensors")
    except FileNotFoundError as error:
        raise StageError(f"{error.filename}: not found; {remedy}") from None
    if scored not in ("", digest):  # earlier versions do not say
        raise StageError(f"{folder}: not the weights that {path} is of; {remedy}")
    return folder


@dataclass(frozen=True)
class HeldOut:
    """What trained models say, in the mean, of the images that none of these was trained on; each image once."""

    names: list[str]
    places: list[tuple[Path, int]]  # of each image a folder that has it, and its row there
    labels: npt.NDArray[np.int64]  # (N,)
    probabilities: Floats  # (N, K)
    trainings: int

    def __len__(self) -> int:
        return len(self.names)


def held_out(models: Sequence[str], replicates: Sequence[int], folds: bool) -> HeldOut | None:
    """Of validation images, and of folds each one's test images; None where models were trained on all of them.

    A model that diverged says nothing.
    """
    where: dict[str, tuple[Path, int, int]] = {}  # of an image: folder, row and label
    said = []
    for replicate in replicates:
        folder, names, labels = held_out_images(replicate, folds)
        where |= {name: (folder, row, int(label)) for row, (name, label) in enumerate(zip(names, labels, strict=True))}
        for model in models:
            found = logits(f"{model}-{replicate}", folds)
            if found is not None and np.isfinite(found).all():
                said.append((names, softmax(found.astype(np.float64), axis=1)))
    if not said:
        return None
    names, probabilities = means(said)
    labels = np.array([where[name][2] for name in names], dtype=np.int64)
    return HeldOut(names, [where[name][:2] for name in names], labels, probabilities, len(said))


def held_out_images(replicate: int, folds: bool) -> tuple[Path, list[str], npt.NDArray[np.int64]]:
    """The folder of the images that a replicate is not trained on, their names and labels (N,)."""
    place, split, prefix = (TEST, "test", "") if folds else (FIT, "val", "val_")
    folder = replicate_folder(place, replicate)
    return folder, image_names(folder, split), np.load(folder / f"{prefix}labels.npy")


def logits(name: str, folds: bool) -> npt.NDArray[np.float32] | None:
    """What a training says of the images that it was not trained on (N, K); None where there are none."""
    if not folds and Evaluation.read(EVALUATIONS / f"{name}.json").config["train"].get("include_validation"):
        return None
    path = logits_path(name) if folds else evaluated(name) / "val_logits.npy"
    try:
        return np.asarray(np.load(path))
    except FileNotFoundError:
        raise StageError(f"{path}: not found; run `dvc repro evaluate@{name}` in the study's folder") from None


def means(said: Sequence[tuple[Sequence[str], Floats]]) -> tuple[list[str], Floats]:
    """The images that trainings spoke of, and the mean of what they said of each (N, K)."""
    row = {name: place for place, name in enumerate(dict.fromkeys(name for names, _ in said for name in names))}
    total, times = np.zeros((len(row), said[0][1].shape[1])), np.zeros((len(row), 1))
    for names, probabilities in said:
        rows = [row[name] for name in names]
        total[rows] += probabilities
        times[rows] += 1
    return list(row), total / times
