"""Class and probability for images: `versus predict IMAGE...`.

An image goes the way of a test image: decoded as fetch does, resized as split does, prepared and scored as evaluate
does. So an image of the data set gets the logits that evaluate gave it.
"""

import json
import sys
from collections.abc import Iterable
from pathlib import Path

from pipeline.base.errors import shown
from pipeline.base.files import writable
from pipeline.base.places import study
from pipeline.trained import catalogue
from pipeline.trained.answers import packed, ranked, readable, scored
from pipeline.trained.overlay import overlays


def predict(
    sources: Iterable[str], model: str = "", top: int = 3, as_json: bool = False, explain: Path | None = None
) -> bool:
    """Print an answer for every image; what has none gets a line on stderr, and False is returned.

    With `explain` that folder gets a picture of each image with what the answer rests on.
    """
    entry, why = catalogue.choose(model)
    if explain is not None:
        writable(explain, "--explain")
    network, config = catalogue.load(entry)
    form = packed(config, entry.name)
    if not as_json:
        print(why, file=sys.stderr)
    faults: list[dict[str, str]] = []
    answers = []
    images = readable(sources, form, faults)
    for paths, pixels, logits in scored(network, config, images):
        if explain is not None:
            overlays(network, config, paths, pixels, logits.argmax(1), explain)
        for path, answer in zip(paths, ranked(logits, config["classes"], top), strict=True):
            answers.append({"image": path, **answer[0], "top": answer})
            if not as_json:
                text = ", ".join(f"{choice['class']} {choice['probability']:.1%}" for choice in answer)
                print(shown(f"{path}: {text}", sys.maxsize), flush=True)
    if as_json:
        chosen = {"study": study(), "model": entry.name, "val_macro_f1": entry.val_macro_f1, "chosen": why}
        print(json.dumps({**chosen, "images": answers, "errors": faults}, indent=2))
    return not faults
