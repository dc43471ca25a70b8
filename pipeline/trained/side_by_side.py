"""One image, and what every model of a study says of it: its likeliest classes, and what its answer rests on."""

import base64
import io
import threading
import warnings
from dataclasses import asdict, dataclass
from typing import Any

import torch
from PIL import Image
from torch import nn

from pipeline.base.errors import StageError
from pipeline.base.places import study
from pipeline.datasets.decode import decode
from pipeline.datasets.resize import fitted
from pipeline.images.packed import Images
from pipeline.params.read import load_params
from pipeline.trained import catalogue
from pipeline.trained.answers import Packed, packed, ranked, scored
from pipeline.trained.overlay import Bytes, explained, picture

SHOWN = 5  # classes of each model


@dataclass(frozen=True)
class Model:
    """A model as it answers: its best replicate by validation."""

    name: str
    validation: str  # macro-F1
    network: nn.Module
    config: dict[str, Any]
    form: Packed


@dataclass(frozen=True)
class Answer:
    model: str
    validation: str
    classes: list[dict[str, Any]]  # class and probability, the likeliest first
    picture: str  # a data URL: what speaks for the likeliest class; empty where nothing can be said of that
    method: str


class SideBySide:
    """The study's models, loaded once; they answer one after the other, and to one question at a time."""

    def __init__(self) -> None:
        """Raises StageError where no model is trained, or none's weights are here."""
        self.study = study()
        here = _trained()
        self.lacking = [name for name in load_params().models if name not in here]
        self.models = [_loaded(name) for name in here]
        self._one_at_a_time = threading.Lock()  # what watches a network while it computes is no other's affair

    def ask(self, content: bytes) -> dict[str, Any]:
        """What all say of an image file, as JSON takes it; raises StageError for what is no image to read."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # `decode` refuses what Pillow warns of and matters
            pixels = decode(content, "this file")
        with self._one_at_a_time:
            answers = [_answer(model, pixels) for model in self.models]
        form = self.models[0].form
        seen = torch.from_numpy(fitted(pixels, form.side, form.channels, form.resize).copy())[None]
        side = max(224, form.side)
        return {
            "size": f"{pixels.shape[1]:,} x {pixels.shape[0]:,} pixels; the models see {form.side} x {form.side}",
            "picture": _data_url(picture(Images(seen, torch.zeros(1, dtype=torch.int64)), 0, side)),
            "answers": [asdict(answer) for answer in answers],
        }


def _trained() -> list[str]:
    """The models of which a replicate's weights are here, in the order of params.yaml."""
    here = [entry.model for entry in catalogue.found(load_params()) if entry.here]
    if not here:
        raise StageError(f"no trained model in models/; {catalogue.REMEDY}")
    return list(dict.fromkeys(here))


def _loaded(name: str) -> Model:
    entry, _ = catalogue.choose(name)
    network, config = catalogue.load(entry)
    return Model(entry.name, entry.validation, network, config, packed(config, entry.name))


def _answer(model: Model, pixels: Bytes) -> Answer:
    form = model.form
    image = fitted(pixels, form.side, form.channels, form.resize)
    ((_, batch, logits),) = scored(model.network, model.config, [("", image)])
    (classes,) = ranked(logits, model.config["classes"], SHOWN)
    try:
        (drawn,), method = explained(model.network, model.config, batch, logits.argmax(1))
    except ValueError as error:
        return Answer(model.name, model.validation, classes, "", str(error))
    return Answer(model.name, model.validation, classes, _data_url(drawn), method)


def _data_url(pixels: Bytes) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
