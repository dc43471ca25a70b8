"""`versus predict`: class and probability for images.

An image goes the way of a test image: decoded as fetch does, resized as split does, prepared and scored as evaluate
does. So an image of the data set gets the logits that evaluate gave it.
"""

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pipeline.base.errors import shown
from pipeline.base.files import writable
from pipeline.base.numbers import positive
from pipeline.base.places import study

SUMMARY = "Class and probability for images"
EXAMPLE = "versus predict photo.jpg photos/ --model cnn"
INTERRUPTED = "the images above have their answers, the others none"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="files, folders, or globs in quotes")
    model = "cnn: its best replicate; cnn-2: that one; else the study's best, by validation"
    parser.add_argument("--model", default="", help=model)
    parser.add_argument("--top", type=positive, default=3, metavar="N", help="classes to name for each image (3)")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    explain = "write there what each answer rests on, over its image"
    parser.add_argument("--explain", type=Path, metavar="FOLDER", help=explain)


def run(given: argparse.Namespace) -> None:
    if not predict(given.images, given.model, given.top, given.json, given.explain):
        sys.exit(1)


def predict(
    sources: Iterable[str], model: str = "", top: int = 3, as_json: bool = False, explain: Path | None = None
) -> bool:
    """Print an answer for every image; what has none gets a line on stderr, and False is returned.

    With `explain` that folder gets a picture of each image with what the answer rests on.
    """
    from pipeline.trained import catalogue
    from pipeline.trained.answers import packed, ranked, readable, scored
    from pipeline.trained.overlay import overlays

    entry, why = catalogue.choose(model)
    if explain is not None:
        writable(explain, "--explain")
    network, config = catalogue.load(entry)
    form = packed(config, entry.name)
    if not as_json:
        print(why, file=sys.stderr)
    faults: list[dict[str, str]] = []
    answers = []
    for paths, pixels, logits in scored(network, config, readable(sources, form, faults)):
        if explain is not None:
            overlays(network, config, paths, pixels, logits.argmax(1), explain)
        for path, answer in zip(paths, ranked(logits, config["classes"], top), strict=True):
            answers.append({"image": path, **answer[0], "top": answer})
            if not as_json:
                print(in_words(path, answer), flush=True)
    if as_json:
        chosen = {"study": study(), "model": entry.name, "val_macro_f1": entry.val_macro_f1, "chosen": why}
        print(json.dumps({**chosen, "images": answers, "errors": faults}, indent=2))
    return not faults


def in_words(path: str, answer: list[dict[str, Any]]) -> str:
    """photo.jpg: rose 91.3%, daisy 8.7%"""
    text = ", ".join(f"{choice['class']} {choice['probability']:.1%}" for choice in answer)
    return shown(f"{path}: {text}", sys.maxsize)
