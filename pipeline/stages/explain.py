"""What the networks look at: test images on which models disagree, each is surely wrong, or all are right.

The weights of each model's first replicate are looked at, on the CPU. Leaves reports/explanations.json and, as tiles of
one picture, reports/explanations.jpg: each image and, over it, what speaks for the class that a model gave it. Images
that may not be passed on are left out, and what a network looks at is drawn without them.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from pipeline.base.errors import StageError
from pipeline.base.files import written_whole
from pipeline.base.lines import folded
from pipeline.base.places import TEST, replicate_folder
from pipeline.base.process import run
from pipeline.images import form, packed
from pipeline.inference import device, loading
from pipeline.params.read import load_params
from pipeline.records.explanations import Answer, Asked, Explanations, Method, Mistake, Mistakes, Shown
from pipeline.records.predictions import Predictions, predictions_path
from pipeline.tracking import runs
from pipeline.trained import saliency
from pipeline.trained.evaluated import evaluated
from pipeline.trained.overlay import Floats, Labels, Sheet, overlay, picture

DATA = Path("reports/data.json")
FACTS, PICTURE = Path("reports/explanations.json"), Path("reports/explanations.jpg")
DISAGREE, MISTAKES, RIGHT = 6, 4, 3  # images on which models disagree; mistakes of each model; images all get right


@dataclass(frozen=True)
class Answers:
    """What one trained model said of the N test images."""

    predicted: Labels  # (N,)
    confidence: Floats  # (N,), the probability of the predicted class; -1 where it is undefined


def main() -> None:
    settings = load_params()
    replicate = settings.replicates[0]
    test = replicate_folder(TEST, replicate)
    classes, images = packed.read_info(test)["classes"], packed.read(test)
    gallery = Gallery(images, classes, may_be_shown())
    answers = {name: read(f"{name}-{replicate}", classes, gallery.actual) for name in settings.models}
    predicted = np.array([each.predicted for each in answers.values()])  # (M, N)
    confidence = np.array([each.confidence for each in answers.values()])
    disagree = gallery.asked(disagreements(gallery.actual, predicted, confidence))
    right = gallery.asked(surely_right(gallery.actual, predicted, confidence))
    models = [gallery.ask(name, replicate, each, [*disagree, *right]) for name, each in answers.items()]
    facts = Explanations(
        images=len(images),
        disagreements=int((predicted != predicted[0]).any(0).sum()),
        replicate=replicate,
        shareable=gallery.shareable,
        sheet=[gallery.sheet.columns, gallery.sheet.rows],
        models=[method for method, _ in models],
        disagree=disagree,
        mistakes=[mistakes for _, mistakes in models],
        right=right,
    )
    save(facts, gallery.sheet.image())
    found = ", ".join(f"{each.model} by {each.method}" for each in facts.models)
    differ = f"models disagree on {facts.disagreements:,} of {len(images):,} test images"
    print(folded(f"explain: {found}; {differ}"))


class Gallery:
    """Test images, and the sheet of those that are shown and of what networks look at in them."""

    def __init__(self, images: packed.Images, classes: list[str], shareable: bool) -> None:
        self.images, self.classes, self.shareable = images, classes, shareable
        self.actual: Labels = images.labels.numpy()
        self.sheet = Sheet()

    def shown(self, row: int) -> Shown:
        """An image, once it is in the sheet if it may be."""
        tile = self.sheet.add(picture(self.images, row)) if self.shareable else None
        return Shown(row, self.classes[self.actual[row]], tile)

    def asked(self, rows: Sequence[int]) -> list[Asked]:
        """Images that wait for answers."""
        return [Asked(**vars(self.shown(row)), answers=[]) for row in rows]

    def ask(self, model: str, replicate: int, answers: Answers, asked: Sequence[Asked]) -> tuple[Method, Mistakes]:
        """Add a model's answers to what was `asked` of all; how it was looked at, and its surest mistakes."""
        rows = [*(each.image for each in asked), *sure_mistakes(self.actual, answers)]
        maps, method, side = look(f"{model}-{replicate}", self.images, rows, answers.predicted)
        mistakes = []
        for place, row in enumerate(rows):
            answer = self.answer(model, answers, row, maps[place] if maps is not None else None)
            if place < len(asked):
                asked[place].answers.append(answer)
            else:
                mistakes.append(Mistake(**vars(self.shown(row)), **vars(answer)))
        return Method(model, method, side), Mistakes(model, mistakes)

    def answer(self, model: str, answers: Answers, row: int, saliency_map: Floats | None) -> Answer:
        """A model's answer to an image, once what it looks at is in the sheet."""
        sure = float(answers.confidence[row])
        tile = None
        if saliency_map is not None:
            tile = self.sheet.add(overlay(saliency_map, picture(self.images, row) if self.shareable else None))
        return Answer(model, self.classes[answers.predicted[row]], round(sure, 4) if sure >= 0 else None, tile)


def save(facts: Explanations, sheet: Image.Image) -> None:
    """Write and log what was found."""
    with written_whole(FACTS) as text, written_whole(PICTURE) as jpeg:
        facts.write(text)
        sheet.save(jpeg, "JPEG", quality=80, subsampling=0, optimize=True)
    with runs.report_run("explain") as tracked:
        tracked.metrics({"disagreements": facts.disagreements})
        tracked.artifact(FACTS)
        tracked.artifact(PICTURE)


def may_be_shown() -> bool:
    """Whether the data set's images may be passed on; what nobody says they may, may not."""
    try:
        return bool(json.loads(DATA.read_text(encoding="utf-8")).get("shareable", False))
    except FileNotFoundError:
        raise StageError(f"{DATA}: not found; run `dvc repro split` in the study's folder") from None


def read(name: str, classes: list[str], actual: Labels) -> Answers:
    """One training's predictions; raises StageError where they are not of these test images."""
    path = predictions_path(name)
    found = Predictions.read(path)
    if found.classes != classes or not np.array_equal(found.actual, actual):
        raise StageError(f"{path}: not of the images in {TEST}; run `dvc repro predictions` in the study's folder")
    return Answers(found.predicted, np.nan_to_num(found.confidence, nan=-1.0))


# which images


def disagreements(actual: Labels, predicted: Labels, confidence: Floats) -> list[int]:
    """Images on which models (M,) disagree most: most different answers, then some right and some wrong, then surest.

    One image of each class before a second of any. Empty for one model.
    """
    different = np.array([len(set(column)) for column in predicted.T])  # (N,)
    split = 0.5 - abs((predicted == actual).mean(0) - 0.5)  # 0.5: half of the models are right
    order = np.lexsort((-confidence.mean(0), -split, -different))
    return spread_over_classes([int(row) for row in order if different[row] > 1], actual, DISAGREE)


def surely_right(actual: Labels, predicted: Labels, confidence: Floats) -> list[int]:
    """Images that all models get right, those first of which the least sure model is surest; one of each class."""
    sure = confidence.min(0)
    rows = np.flatnonzero((predicted == actual).all(0))
    return spread_over_classes(rows[np.argsort(-sure[rows], kind="stable")].tolist(), actual, RIGHT)


def sure_mistakes(actual: Labels, answers: Answers) -> list[int]:
    """One model's mistakes, the surest first."""
    rows = np.flatnonzero(answers.predicted != actual)
    return rows[np.argsort(-answers.confidence[rows], kind="stable")][:MISTAKES].tolist()


def spread_over_classes(rows: Sequence[int], actual: Labels, count: int) -> list[int]:
    """The first `count` of `rows`, but a second image of a class only when every class that occurs has had one."""
    turns: dict[int, int] = {}
    ranked = []
    for place, row in enumerate(rows):
        turns[actual[row]] = turns.get(actual[row], -1) + 1
        ranked.append((turns[actual[row]], place, row))
    return [row for _, _, row in sorted(ranked)[:count]]


# what a network looks at


def look(name: str, images: packed.Images, rows: list[int], classes: Labels) -> tuple[Floats | None, str, int]:
    """Saliency maps (len(rows), S, S) of one trained model for the classes that it gave, the method, the grid's side.

    None and "nothing to look at" for a network with neither attention nor feature map, and where there are no rows.
    """
    if not rows:
        return None, "nothing to look at", 0
    network, config = loading.load(evaluated(name))
    prepared = form.prepare(images.pixels[torch.tensor(rows)], loading.image_format(config))
    with device.memory_remedy("free memory"):
        try:
            found = saliency.explain(network, prepared, torch.from_numpy(classes[rows]))
        except ValueError:
            return None, "nothing to look at", 0
    return found.maps.double().numpy(), found.method, found.side


if __name__ == "__main__":
    run(main)
