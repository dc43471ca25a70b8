"""The test images that a training got wrong, from its predictions, and their files."""

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.base.errors import StageError, shown
from pipeline.base.places import TEST, find, replicate_folder
from pipeline.images.manifest import image_names
from pipeline.params.read import load_params
from pipeline.records.predictions import Predictions, predictions_path
from pipeline.trained import catalogue, leftovers

NAME = 120  # characters that the name of a copy takes of the image's own


@dataclass(frozen=True)
class Wrong:
    """A test image taken for another class, and what the network said of it."""

    row: int  # among the test images
    image: str  # the name of its file; its number where predictions of an earlier version name none
    actual: str
    predicted: str
    confidence: float  # the probability of the class predicted
    of_actual: float  # that of its own

    @property
    def words(self) -> str:
        """test/fear/12.jpg: fear, taken for happiness at 99.8% (fear at 0.1%)"""
        said = f"taken for {self.predicted} at {self.confidence:.1%} ({self.actual} at {self.of_actual:.1%})"
        return shown(f"{self.image}: {self.actual}, {said}", 1000)


def training(asked: str) -> str:
    """The training that is meant: cnn-2 itself, or of cnn's replicates that with the highest validation macro-F1."""
    settings = load_params()
    names = leftovers.trainings(settings)
    if asked in names:
        return asked
    if asked not in settings.models:
        raise StageError(
            f"no model {asked!r} in params.yaml; choose from {', '.join(settings.models)}, or one of its replicates as"
            f" in {names[0]}"
        )
    found = [entry for entry in catalogue.found(settings) if entry.model == asked]
    if not found:
        raise StageError(f"{asked} is not trained; {catalogue.REMEDY}")
    return catalogue.highest(found).name


def class_named(name: str, classes: Sequence[str]) -> str:
    """The class that a name means, if need be in other capitals; raises StageError where there is none."""
    alike = [each for each in classes if each.casefold() == name.casefold()]
    if name in classes or len(alike) == 1:
        return name if name in classes else alike[0]
    raise StageError(f"--class: no class {shown(name)!r}; choose from {shown(', '.join(classes), 1000)}")


def wrong(found: Predictions, of_class: str | None = None) -> list[Wrong]:
    """The test images that a training got wrong, those of a class or all, the surest first."""
    classes = found.classes
    rows = np.flatnonzero(~found.right)
    probabilities = found.of_every_class
    ordered = rows[np.argsort(-found.confidence[rows], kind="stable")]  # of a training that diverged as they are
    return [
        Wrong(
            row=int(row),
            image=found.images[row] if found.images else f"image {row}",
            actual=classes[found.actual[row]],
            predicted=classes[found.predicted[row]],
            confidence=float(found.confidence[row]),
            of_actual=float(probabilities[row, found.actual[row]]),
        )
        for row in ordered
        if of_class in (None, classes[found.actual[row]])
    ]


def read(name: str) -> Predictions:
    return Predictions.read(predictions_path(name))


def copy(name: str, images: Sequence[str] | None, found: Sequence[Wrong], folder: Path) -> int:
    """Copy images into a folder, in their order by name; of how many the source has the file itself.

    The others, of archives and of data sets that are tables, are written as split packed them. Raises StageError where
    neither is here.
    """
    given = load_params().dataset.source
    source = find(given) if given else None
    packed = None
    originals = 0
    for rank, each in enumerate(found, start=1):
        original = inside(source, each.image)
        target = folder / f"{rank:04d}-{copied_name(each)}"
        if original is not None:
            shutil.copyfile(original, target.with_name(target.name + original.suffix.lower()))
            originals += 1
            continue
        if packed is None:
            packed = packed_images(name, images)
        pixels = np.asarray(packed[each.row])
        Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(
            target.with_name(target.name + ".png")
        )
    return originals


def inside(source: Path | None, name: str) -> Path | None:
    """The file of an image in a source that is a folder; None where it has none, or the name leads out of it."""
    if source is None or not source.is_dir():
        return None
    path = (source / name).resolve()
    return path if path.is_relative_to(source.resolve()) and path.is_file() else None


def copied_name(each: Wrong) -> str:
    """fear-as-happiness-99.8-test_fear_12"""
    text = f"{each.actual}-as-{each.predicted}-{100 * each.confidence:.1f}-{Path(each.image).with_suffix('')}"
    return re.sub(r"[^\w.+-]+", "_", text)[:NAME]


def packed_images(name: str, images: Sequence[str] | None) -> np.ndarray:
    """The test images of a training (N, S, S, C), as split packed them; raises StageError if others are here."""
    folder = replicate_folder(TEST, int(name.rpartition("-")[2]))
    if images is not None and image_names(folder) != list(images):
        raise StageError(f"{folder}: not the test images that {name} was scored on; run `dvc checkout` or `dvc repro`")
    try:
        return np.load(folder / "images.npy", mmap_mode="r")
    except FileNotFoundError:
        raise StageError(f"{folder}: not found; run `dvc checkout {TEST}` or `dvc repro split`") from None
