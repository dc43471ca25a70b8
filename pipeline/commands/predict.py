"""`versus predict`: class and probability for images.

An image goes the way of a test image: decoded as fetch does, resized as split does, prepared and scored as evaluate
does. So an image of the data set gets the logits that evaluate gave it.
"""

import argparse
import csv
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pipeline.base.errors import legible, shown
from pipeline.base.files import empty, writable_file, written_whole
from pipeline.base.numbers import positive
from pipeline.base.places import study

SUMMARY = "Class and probability for images"
EXAMPLE = "versus predict photo.jpg photos/ --model cnn"
INTERRUPTED = "the images above have their answers, the others none; a file of --csv is whole or as it was"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="files, folders, or globs in quotes")
    model = "cnn: its best replicate; cnn-2: that one; else the study's best, by validation"
    parser.add_argument("--model", default="", help=model)
    parser.add_argument("--top", type=positive, default=3, metavar="N", help="classes to name for each image (3)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON document")
    table = "write a line for each image there: its class, and the probability of every class"
    form.add_argument("--csv", type=Path, metavar="FILE", help=table)
    explain = "write there, into a new folder, what each answer rests on, over its image"
    parser.add_argument("--explain", type=Path, metavar="FOLDER", help=explain)


def run(given: argparse.Namespace) -> None:
    if not predict(given.images, given.model, given.top, given.json, given.explain, given.csv):
        sys.exit(1)


def predict(
    sources: Iterable[str],
    model: str = "",
    top: int = 3,
    as_json: bool = False,
    explain: Path | None = None,
    table: Path | None = None,
) -> bool:
    """Print an answer for every image, or write it to `table`; False where one has none, which gets a line on stderr.

    With `explain` that folder gets a picture of each image with what the answer rests on.
    """
    from pipeline.trained import catalogue
    from pipeline.trained.answers import packed, ranked, readable, scored
    from pipeline.trained.overlay import overlays

    entry, why = catalogue.choose(model)
    refuse_unwritable(explain, table)
    network, config = catalogue.load(entry)
    form = packed(config, entry.name)
    if not as_json:
        print(why, file=sys.stderr)
    faults: list[dict[str, str]] = []
    answers, rows = [], list[tuple[str, list[float]]]()
    for paths, pixels, logits in scored(network, config, readable(sources, form, faults)):
        if explain is not None:
            overlays(network, config, paths, pixels, logits.argmax(1), explain)
        if table is not None:
            rows += zip(paths, logits.double().softmax(1).tolist(), strict=True)
            continue
        for path, answer in zip(paths, ranked(logits, config["classes"], top), strict=True):
            answers.append({"image": path, **answer[0], "top": answer})
            if not as_json:
                print(in_words(path, answer), flush=True)
    if table is not None:
        write_csv(table, entry.name, config["classes"], rows, [fault["image"] for fault in faults])
    if as_json:
        chosen = {"study": study(), "model": entry.name, "val_macro_f1": entry.val_macro_f1, "chosen": why}
        print(json.dumps({**chosen, "images": answers, "errors": faults}, indent=2))
    return not faults


def refuse_unwritable(explain: Path | None, table: Path | None) -> None:
    """Raise StageError, before any work, where what is asked for cannot be written."""
    if explain is not None:
        empty(explain, "--explain")
    if table is not None:
        writable_file(table, "--csv")


def in_words(path: str, answer: list[dict[str, Any]]) -> str:
    """photo.jpg: rose 91.3%, daisy 8.7%"""
    text = ", ".join(f"{choice['class']} {choice['probability']:.1%}" for choice in answer)
    return shown(f"{path}: {text}", sys.maxsize)


def write_csv(
    path: Path, model: str, classes: Sequence[str], rows: Sequence[tuple[str, list[float]]], unread: Sequence[str]
) -> None:
    """Write a line for each image: its name, the likeliest class, its probability, those of all classes, the model.

    Of an image that could not be read there is the name alone. Names are escaped as they are where answers are printed.
    """
    from pipeline.base.escape import cell

    with written_whole(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["image", "class", "probability", *(f"p({name})" for name in classes), "model"])
        for image, shares in rows:
            highest = max(shares)
            likeliest = classes[shares.index(highest)]
            writer.writerow(
                [cell(legible(image)), cell(likeliest), *(f"{share:.6f}" for share in (highest, *shares)), model]
            )
        writer.writerows([cell(legible(image)), "", "", *[""] * len(classes), model] for image in unread)
    print(f"{path}: {len(rows)} image{'s' * (len(rows) != 1)}")
