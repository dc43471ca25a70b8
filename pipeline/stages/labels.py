"""labels: what speaks against the labels of a study's images. It changes none of them, and nothing is chosen by it.

Of MNIST, CIFAR-10 and Caltech-256, five annotators were asked about suspicious labels (datasets/reviews.py): what they
said of test images, or in one line why that is not known here. Of any data set, which labels of validation images are
likely wrong as the trained models see them, which did not learn these (scoring/confident.py); of folds, of all images.
Leaves reports/labels.json and, as tiles of one picture, reports/labels.jpg: the most suspicious images.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from pipeline import datasets
from pipeline.base.errors import StageError
from pipeline.base.files import written_whole
from pipeline.base.places import FIT, RAW, TEST, replicate_folder
from pipeline.base.process import run
from pipeline.datasets import reviews
from pipeline.datasets.raw import Raw
from pipeline.images import packed
from pipeline.images.manifest import image_names
from pipeline.params.read import load_params
from pipeline.records.dataset import Dataset
from pipeline.records.labels import LabelCheck, Reviewed, Reviews, Suspect, Suspects
from pipeline.scoring import confident
from pipeline.tracking import runs
from pipeline.trained.evaluated import HeldOut, held_out
from pipeline.trained.overlay import Bytes, Sheet, picture

FACTS, PICTURE = Path("reports/labels.json"), Path("reports/labels.jpg")
SHOWN = 32  # suspected labels


def main() -> None:
    settings, data, sheet = load_params(), Dataset.read(), Sheet()
    tested = [image_names(replicate_folder(TEST, replicate)) for replicate in settings.replicates]
    known = held_out(list(settings.models), settings.replicates, data.cross_validation is not None)
    found = LabelCheck(
        reviews=asked(settings.dataset.name, dict.fromkeys(name for names in tested for name in names)),
        suspects=suspects(known, data, sheet) if known else None,
    )
    save(found, sheet)
    print(f"labels: {in_words(found)}")


def save(found: LabelCheck, sheet: Sheet) -> None:
    """Write and log what was found."""
    with written_whole(FACTS) as text, written_whole(PICTURE) as jpeg:
        found.write(text)
        sheet.image().save(jpeg, "JPEG", quality=80, subsampling=0, optimize=True)
    with runs.report_run("labels") as tracked:
        tracked.metrics({"refuted_labels": found.reviews.refuted})
        if found.suspects:
            tracked.metrics({"suspected_labels": found.suspects.suspected})
        tracked.artifact(FACTS)
        tracked.artifact(PICTURE)


def in_words(found: LabelCheck) -> str:
    said, seen = found.reviews, found.suspects
    parts = ["every image was trained on, so that none is suspected"]
    if seen:
        parts = [f"{seen.suspected:,} labels of {seen.looked_at:,} images that were not trained on are suspected"]
    if said.images:
        parts.append(f"of {len(said.images):,} test images, annotators refuted the labels of {said.refuted:,}")
    if said.untold:
        parts.append(f"what annotators said is not told: {said.untold}; then run `dvc repro -f labels`")
    return "; ".join(parts)


# suspected by the trained models


def suspects(known: HeldOut, data: Dataset, sheet: Sheet) -> Suspects:
    """Which labels are suspected; the images of the first ones are put into the sheet, if they may be shown."""
    rows = confident.suspected(known.labels, known.probabilities)
    shown = []
    for row in rows[:SHOWN].tolist():
        label, likeliest = int(known.labels[row]), int(known.probabilities[row].argmax())
        shown.append(
            Suspect(
                image=known.names[row],
                label=data.names[label],
                probability=round(float(known.probabilities[row, label]), 4),
                likeliest=data.names[likeliest],
                highest=round(float(known.probabilities[row, likeliest]), 4),
                tile=sheet.add(pictured(*known.places[row])) if data.shareable else None,
            )
        )
    agreed = float((known.probabilities.argmax(1) == known.labels).mean())
    return Suspects(len(known), known.trainings, round(agreed, 4), len(rows), shown, [sheet.columns, sheet.rows])


def pictured(folder: Path, row: int) -> Bytes:
    """An image of validation or test as a tile."""
    return picture(packed.read(folder, "val_" if folder.is_relative_to(FIT) else ""), row)


# refuted by annotators


def asked(name: str, tested: Iterable[str]) -> Reviews:
    """What annotators said of the test images that are called as `tested` says."""
    files = datasets.about(name).reviews
    if not files:
        return Reviews(source="", untold="", images=[])
    try:
        of_image = by_image(Raw.open(RAW), reviews.read(files))
    except StageError as error:
        return Reviews(source=reviews.HOME, untold=str(error), images=[])
    return Reviews(source=reviews.HOME, untold="", images=[of_image[each] for each in tested if each in of_image])


def by_image(raw: Raw, found: reviews.Reviews) -> dict[str, Reviewed]:
    """Reviews by the name that an image has here; raises StageError where it is not known which image is which."""
    official = raw.splits == "test"
    rows = np.flatnonzero(official | ~official.any())  # of data without a test split all
    counts = np.bincount(raw.labels[rows], minlength=len(raw.classes))
    whole = np.array_equal(counts, found.images) if official.any() else counts[: len(found.images)].all()
    if not whole:
        raise StageError(f"{RAW} has not all of the official images, so that it is not known which these are")
    if (raw.ranks[rows] < 0).any():
        raise StageError(f"the images in {RAW} are not numbered, so that it is not known which these are")
    names = {(int(raw.labels[row]), int(raw.ranks[row])): raw.names[row] for row in rows}
    return {
        image: Reviewed(
            image,
            raw.classes[each.label],
            raw.classes[each.guess],
            each.for_label,
            each.for_guess,
            each.for_both,
            each.for_neither,
        )
        for each in found.every
        if (image := names.get((each.label, each.rank)))
    }


if __name__ == "__main__":
    run(main)
