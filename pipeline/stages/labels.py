"""labels: what is known against the labels of a study's images. It changes none of them, and nothing is chosen by it.

Of MNIST, CIFAR-10 and Caltech-256, five annotators were asked about suspicious labels (datasets/reviews.py). Leaves
reports/labels.json: those of the test images with what was said, or in one line why that is not known here.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from pipeline import datasets
from pipeline.base.errors import StageError
from pipeline.base.files import written_whole
from pipeline.base.places import RAW, TEST, replicate_folder
from pipeline.base.process import run
from pipeline.datasets import reviews
from pipeline.datasets.raw import Raw
from pipeline.datasets.reviews import Reviews
from pipeline.images.manifest import image_names
from pipeline.params.read import load_params
from pipeline.records.labels import LabelCheck, Reviewed

REPORT = Path("reports/labels.json")


def main() -> None:
    settings = load_params()
    tested = [image_names(replicate_folder(TEST, replicate)) for replicate in settings.replicates]
    found = asked(settings.dataset.name, dict.fromkeys(name for names in tested for name in names))
    with written_whole(REPORT) as partial:
        found.write(partial)

    from pipeline.tracking import runs  # late: it imports mlflow, and a fault above should not wait for that

    with runs.report_run("labels") as tracked:
        tracked.metrics({"labels/reviewed": len(found.reviewed), "labels/refuted": found.refuted})
        tracked.artifact(REPORT)
    print(f"labels: {in_words(found)}")


def asked(name: str, tested: Iterable[str]) -> LabelCheck:
    """What annotators said of the test images that are called as `tested` says."""
    files = datasets.about(name).reviews
    if not files:
        return LabelCheck(source="", untold="", reviewed=[])
    try:
        of_image = by_image(Raw.open(RAW), reviews.read(files))
    except StageError as error:
        return LabelCheck(source=reviews.HOME, untold=str(error), reviewed=[])
    return LabelCheck(source=reviews.HOME, untold="", reviewed=[of_image[each] for each in tested if each in of_image])


def by_image(raw: Raw, found: Reviews) -> dict[str, Reviewed]:
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


def in_words(found: LabelCheck) -> str:
    if found.untold:
        return f"what annotators said of this data set is not told: {found.untold}; then run `dvc repro -f labels`"
    if not found.source:
        return "nobody was asked about this data set"
    return f"of {len(found.reviewed)} suspicious test images, annotators refuted the labels of {found.refuted}"


if __name__ == "__main__":
    run(main)
