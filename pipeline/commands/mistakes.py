"""`versus mistakes`: the test images that a model gets wrong, surest first, with what it said; listed or copied.

To look at, and to find wrong labels by: what is chosen or mended after them is chosen on test images.
"""

import argparse
from pathlib import Path

SUMMARY = "List or copy the test images that a model gets wrong, surest first"
EXAMPLE = "versus mistakes cnn --class 8 --copy mistakes/"
INTERRUPTED = "what was copied stays"


def arguments(parser: argparse.ArgumentParser) -> None:
    model = "cnn: its best replicate, by validation; cnn-2: that one"
    parser.add_argument("model", metavar="MODEL", help=model)
    parser.add_argument("--class", dest="of_class", default="", metavar="CLASS", help="images of this class alone")
    copied = (
        "copy them there, into a new folder, numbered in this order: files of the source, or the packed images as PNG"
    )
    parser.add_argument("--copy", type=Path, metavar="FOLDER", help=copied)


def run(given: argparse.Namespace) -> None:
    from pipeline.base.errors import shown
    from pipeline.base.files import empty
    from pipeline.trained import mistakes

    name = mistakes.training(given.model)
    predictions = mistakes.read(name)
    classes = predictions.classes
    of_class = mistakes.class_named(given.of_class, classes) if given.of_class else None
    if given.copy is not None:
        empty(given.copy, "--copy")
    found = mistakes.wrong(predictions, of_class)
    for each in found:
        print(each.words)
    asked = [label for label in predictions.actual if of_class in (None, classes[label])]
    of = "test images" if of_class is None else f"test images of class {shown(of_class)}"
    print(f"\n{name}: {len(found)} of {len(asked)} {of} wrong")
    if given.copy is not None:
        originals = mistakes.copy(name, predictions.images, found, given.copy)
        print(f"{given.copy}: {originals} files of the source, {len(found) - originals} as split packed them")
