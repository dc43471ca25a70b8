"""Each model's features as they are before training, computed once, and what probes find in them.

Features lie in the checkout's `.versus/features`, by a digest of all that they come from: the network's weights, how
its images are presented, the images.
"""

import contextlib
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import nn

from pipeline.base.errors import StageError
from pipeline.base.files import written_whole
from pipeline.base.places import FIT, TEST, replicate_folder, state_folder
from pipeline.images import packed
from pipeline.images.form import Format
from pipeline.inference import embedding, loading
from pipeline.inference.device import pick_device
from pipeline.params.study import Params
from pipeline.scoring import probes
from pipeline.scoring.metrics import Floats
from pipeline.scoring.probes import Probe, Split, Splits
from pipeline.training import task

SHOTS = (1, 5, 10)  # images of a class


@dataclass(frozen=True)
class Probed:
    """What probes find in one model's features."""

    model: str
    features: int
    probes: list[Probe]
    network: str  # SHA-256 of what the features come from, images apart
    images: str  # SHA-256 of the test images


def starting_from_weights(study: Params) -> list[str]:
    """The models that do; raises StageError where none does."""
    names = [name for name, model in study.models.items() if model.pretrained]
    if not names:
        raise StageError(
            "params.yaml: no model starts from weights (`pretrained`); name models to see what features from scratch"
            " are worth"
        )
    return names


def probed(study: Params, name: str, seed: int = 0) -> Probed:
    """Compute or read the features of one model on the first replicate's images, and probe them."""
    if name not in study.models:
        raise StageError(f"params.yaml: no model {name!r}; choose from {', '.join(study.models)}")
    replicate = study.replicates[0]
    fit, test = (replicate_folder(place, replicate) for place in (FIT, TEST))
    info = packed.read_info(fit)
    config = task.resolve(study, name, replicate, info)
    network, form = loading.construct(config, info, study.dataset.normalise)
    device = pick_device(config["train"]["device"])
    parts = {"train": (fit, "train_"), "val": (fit, "val_"), "test": (test, "")}
    found = {}
    for part, place in parts.items():
        images = packed.read(*place)
        found[part] = Split(cached(network, form, images, device), images.labels.numpy())
    splits = Splits(**found).scaled
    few = [probes.few_shot(splits, shots, seed) for shots in SHOTS]
    every = [probes.linear(splits), probes.neighbours(splits), *(each for each in few if each)]
    none = packed.Images(images.pixels[:0], images.labels[:0])
    tested = packed.read_info(test)["digest"]
    return Probed(name, splits.train.features.shape[1], every, digest(network, form, none), tested)


def cached(network: nn.Module, form: Format, images: packed.Images, device: torch.device) -> Floats:
    """Features (N, D) of images, from `.versus/features` where they are known."""
    path = state_folder() / "features" / f"{digest(network, form, images)}.npy"
    with contextlib.suppress(OSError, ValueError):
        return np.load(path)
    found = embedding.features(network, images, form, device).numpy()
    with contextlib.suppress(OSError), written_whole(path) as partial, partial.open("wb") as file:
        np.save(file, found)
    return found


def digest(network: nn.Module, form: Format, images: packed.Images) -> str:
    """SHA-256 over what features come from."""
    known = hashlib.sha256(json.dumps([str(network), asdict(form), list(images.pixels.shape)]).encode())
    for name, tensor in network.state_dict().items():
        known.update(name.encode())
        known.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    known.update(images.pixels.numpy().tobytes())
    return known.hexdigest()


def all_probed(study: Params, names: Sequence[str]) -> list[Probed]:
    return [probed(study, name) for name in names or starting_from_weights(study)]
