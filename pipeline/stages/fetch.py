"""fetch: the data set's images and labels in canonical form, checked.

Leaves in data/raw: `pixels.bin` (all images' uint8 pixels, H x W x C, one after another), `index.csv` (one line per
image, `offset` in bytes), `info.json`, and `votes.csv` (images x classes) where the source has votes. The same
images give the same bytes, wherever they come from. What else is known of them, by the table that `dataset.attributes`
names or by the source, is in `attributes.csv`.
"""

import csv
import hashlib
import math
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import datasets
from pipeline.base.errors import StageError, shown
from pipeline.base.files import write_json, written_whole
from pipeline.base.places import RAW
from pipeline.base.process import run
from pipeline.datasets.collection import About, Collection, variant
from pipeline.datasets.decode import decoded_parts
from pipeline.datasets.raw import COLUMNS
from pipeline.params.read import load_params
from pipeline.records import attributes
from pipeline.stages.source import OWN, confirm, the_table

QUARTER = 64  # of 256 shades: all that is left of 14 bits in a file of 16
UNFIT = "[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]"  # of a class's name


def main() -> None:
    dataset = load_params().dataset
    with datasets.opened(dataset.name, dataset.source) as (about, collection), written_whole(RAW) as folder:
        confirm(dataset.name, dataset.source, dataset.attributes)
        check(collection, dataset.name)
        known = columns(about, collection, dataset.attributes)
        info = describe(dataset.name, about, collection)
        digest = write(folder, collection, info)
        if known:
            attributes.write(folder / attributes.TABLE, (image.name for image in collection.images), known)
        confirm(dataset.name, dataset.source, dataset.attributes)  # nor has it changed meanwhile
    counts = Counter(image.split for image in collection.images)
    log(info, digest, counts, dataset.source)
    caption = f"{info['title']} ({info['variant']})" if info["variant"] else info["title"]
    sizes = ", ".join(f"{n:,} {split}".strip() for split, n in counts.items())
    print(f"fetch: {caption}: {sizes} images of {len(collection.classes)} classes")


def check(collection: Collection, name: str) -> None:
    """Raise StageError if a class has no training images, two images share a name, or a class's is not for text."""
    if unfit := next((label for label in collection.classes if re.search(UNFIT, label)), None):
        raise StageError(
            f"{name}: the class {shown(unfit)} has characters in its name that cannot be shown as they are (control"
            " characters, line ends, reversed direction); rename it"
        )
    trained = {image.label for image in collection.images if image.split in ("", "train")}
    present = Counter((image.label, image.split) for image in collection.images)
    for label in collection.classes:
        if label not in trained:
            elsewhere = [f"{n:,} in {split}" for (found, split), n in present.items() if found == label]
            raise StageError(
                f"{name}: class {label!r} has no training images ({', '.join(elsewhere) or 'none anywhere'});"
                " every class needs some"
            )
    twice = next((image for image, n in Counter(image.name for image in collection.images).items() if n > 1), None)
    if twice:
        raise StageError(f"{name}: two images are called {twice}; remove one of them")


def columns(about: About, collection: Collection, table: str) -> attributes.Columns:
    """The attributes of the images, by a table of the study's own or by the source; none where none are asked for.

    Raises StageError where the source has none.
    """
    if not table:
        return {}
    if table != OWN:
        return attributes.read(the_table(table), [image.name for image in collection.images])
    if not any(image.attributes for image in collection.images):
        raise StageError(
            f"dataset.attributes: {OWN}: this source of {about.title} says nothing of images but their classes; name a"
            " CSV file, or leave it out"
        )
    unknown = ("",) * len(about.attributes)
    every = zip(*(image.attributes or unknown for image in collection.images), strict=True)
    return dict(zip(about.attributes, every, strict=True))


def describe(name: str, about: About, collection: Collection) -> dict[str, Any]:
    """info.json. `fit_variant` is the variant of the training and validation images alone."""
    found = Counter(image.split for image in collection.images)
    return {
        "dataset": name,
        "title": collection.title or about.title,
        "variant": variant(collection.copy, found, about.published),
        "fit_variant": variant(collection.copy, found, about.published, splits=("train", "val")),
        "classes": list(collection.classes),
        "flip": about.flip,
        "shareable": about.shareable,
        "licence": about.licence,
        "homepage": about.homepage,
        "published": dict(about.published),
        "caveats": " ".join(filter(None, (about.caveats, about.copies.get(collection.copy)))),
        "expressions": about.expressions,
    }


def write(folder: Path, collection: Collection, info: dict[str, Any]) -> str:
    """Write the three files into the new `folder`; the SHA-256 over the index and all pixels is returned."""
    folder.mkdir()
    digest = hashlib.sha256()
    offset, brightest = 0, 0
    with (
        (folder / "pixels.bin").open("wb") as pixel_file,
        (folder / "index.csv").open("w", encoding="utf-8", newline="") as index_file,
    ):
        index = csv.writer(index_file, lineterminator="\n")
        index.writerow(COLUMNS)
        for images, shapes, content in decoded_parts(collection.images):
            pixel_file.write(content)
            digest.update(content)
            brightest = max(brightest, int(np.frombuffer(content, np.uint8).max()))
            for image, shape in zip(images, shapes, strict=True):
                index.writerow((image.name, image.label, image.split, *shape, offset, image.subject, image.rank))
                offset += math.prod(shape)
    if brightest < QUARTER:
        print(
            f"versus: no value of any image is above {brightest} of 255: if the files hold 10 to 14 bits in 16, save"
            " them with 8, stretched alike (docs/data.md)",
            file=sys.stderr,
        )
    digest.update((folder / "index.csv").read_bytes())
    if any(image.votes for image in collection.images):
        with (folder / "votes.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(image.votes for image in collection.images)
        digest.update((folder / "votes.csv").read_bytes())
    write_json(folder / "info.json", {**info, "digest": digest.hexdigest()})
    return digest.hexdigest()


def log(info: dict[str, Any], digest: str, counts: Counter[str], source: str) -> None:
    from pipeline.tracking import runs

    with runs.data_run("fetch") as tracked:
        tracked.params({"variant": info["variant"] or "official", "raw_digest": digest})
        tracked.metrics({f"fetched_{split}_images" if split else "fetched_images": n for split, n in counts.items()})
        tracked.dataset(info["title"], digest, source or "official source", "raw")


if __name__ == "__main__":
    run(main)
