"""Build every network of params.yaml, before any work depends on it: what only timm knows to be wrong is said at once.

On the meta device, which computes shapes and no numbers: a tenth of a second each, whatever the network's size. A
network that meta cannot do is built for real; so is one that starts from a file, which must fit. Importing torch and
timm takes seconds, so that what was found in order is kept, in `.versus/networks.json`, and not built again before the
model, the code or a library changes.
"""

import contextlib
import functools
import hashlib
import json
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pipeline.base.errors import StageError
from pipeline.base.files import write_json, written_whole
from pipeline.base.places import find, state_folder
from pipeline.params.settings import Train
from pipeline.params.study import Params

CLASSES = 7  # of the data set, which nobody has read yet; no published network has as many
KEPT = 1000  # networks found in order, the newest


def rehearse(study: Params) -> None:
    """Raise StageError, a line for each, for models whose networks cannot be built or cannot be trained as asked."""
    known, faults = read(), []
    for name in study.models:
        if (own := digest(study, name)) in known:
            continue
        try:
            build(study, name)
        except StageError as error:
            faults.append(str(error))
        else:
            known.append(own)
            keep(known)
    if faults:
        raise StageError("\n".join(faults))


def build(study: Params, name: str) -> None:
    """Build one model's network and give it images in both modes; raises StageError where that fails."""
    import torch

    from pipeline import networks

    settings, side = study.network(name), image_side(study, name)
    if settings["pretrained"] is True and "backbone" in settings:
        try:
            networks.require_published(settings["family"], settings["backbone"])
        except StageError as error:
            raise StageError(f"params.yaml: models.{name}.{error}") from None
        settings["pretrained"] = False
    devices = ["cpu"] if settings["pretrained"] else ["meta", "cpu"]  # what fails on meta may be right on the CPU
    while devices:
        try:
            with warnings.catch_warnings(), torch.device(devices.pop(0)):
                warnings.simplefilter("ignore")  # of numbers that meta has not
                network = networks.build(name=name, classes=CLASSES, image_size=side, seed=0, **settings)
                refuse_untrainable(network, side, name, study.model_train(name))
            return
        except StageError as error:
            if not devices:
                raise StageError(str(error)) from None


def refuse_untrainable(network: Any, side: int, name: str, train: Train) -> None:
    """Raise StageError for a network that does in training what the loss cannot take, or lacks the part to train."""
    from pipeline import networks
    from pipeline.networks import angular

    where = f"params.yaml: models.{name}"
    if (channels := networks.channels(network)) not in (1, 3):
        raise StageError(f"{where}.args.in_chans: got {channels}; choose 1 for grey images or 3 for colour")
    try:
        networks.try_out(network.train(), 2, side, CLASSES)
        if train.center_loss:
            angular.classifier(network, CLASSES)
        if train.tune != "full":
            networks.head(network)
    except StageError as error:
        raise StageError(f"{where}.{error}") from None
    except Exception as error:  # whatever a network of other people raises
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise StageError(f"{where}: cannot be trained on images of {side} pixels: {reason}") from None


def image_side(study: Params, name: str) -> int:
    """The side of the images that a model's network sees."""
    return study.model_augment(name).crop_size or study.dataset.image_size


# What was found in order


def digest(study: Params, name: str) -> str:
    """SHA-256 over what decides whether a model's network can be built."""
    settings, train = study.network(name), study.model_train(name)
    libraries = {library: version(library) for library in ("torch", "timm", "torchvision")}
    parts = [settings, image_side(study, name), train.center_loss > 0, train.tune]
    text = json.dumps([parts, stamp(settings["pretrained"]), libraries, code_digests(sources())], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def sources() -> tuple[Path, ...]:
    here = Path(__file__)
    return (here, *sorted((here.parents[1] / "networks").glob("*.py")))


@functools.cache
def code_digests(paths: tuple[Path, ...]) -> list[str]:
    """SHA-256 of each file, as it was when this process first asked."""
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]


def stamp(pretrained: Any) -> list[int] | None:
    """Size and time of a file of weights, by which a change of it is noticed; None where there is no file."""
    path = pretrained["path"] if isinstance(pretrained, dict) else pretrained
    place = find(path) if isinstance(path, str) else None
    with contextlib.suppress(OSError):
        return [place.stat().st_size, place.stat().st_mtime_ns] if place else None
    return None


def read() -> list[str]:
    try:
        known = json.loads((state_folder() / "networks.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return known if isinstance(known, list) else []


def keep(known: list[str]) -> None:
    """Write them down; where nothing can be written, the networks are built again next time."""
    with contextlib.suppress(OSError), written_whole(state_folder() / "networks.json") as partial:
        write_json(partial, known[-KEPT:])
