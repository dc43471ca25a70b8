"""Weights of a whole network from a file that is known by its SHA-256; its classifier may be of other classes."""

import hashlib
import io
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load
from torch import Tensor, nn

from pipeline.base.errors import StageError
from pipeline.base.places import find
from pipeline.networks.angular import classifier_name


def load_pretrained(network: nn.Module, path: str, sha256: str, classes: int) -> None:
    """Load the file in place. A classifier of another number of classes stays as it was initialised.

    Raises StageError where there is no such file, its bytes are others, or a tensor is missing, foreign or of another
    shape.
    """
    found = find(path)
    if found is None:
        raise StageError(
            f"pretrained: no file {path!r}; give a path from the study's folder, and train what leaves it first"
        )
    content = found.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != sha256:
        raise StageError(f"pretrained: {path} has SHA-256 {digest}, not {sha256}; give its own, or get the other file")
    weights, wanted = tensors(found, content), network.state_dict()
    head = classifier_name(network, classes)
    weight, bias = f"{head}.weight", f"{head}.bias"
    if weight in weights and weights[weight].shape[1:] == wanted[weight].shape[1:]:
        if len(weights[weight]) != classes:
            weights |= {key: wanted[key] for key in (weight, bias) if key in wanted}
        elif bias in wanted:  # which a classifier by angle lacks
            weights.setdefault(bias, torch.zeros_like(wanted[bias]))
        if bias not in wanted:
            weights.pop(bias, None)
    check(weights, wanted, path)
    network.load_state_dict(weights)


AVERAGED = ("state_dict_ema", "model_ema")  # where training scripts keep weights averaged over steps: they are better
PLACES = (*AVERAGED, "state_dict", "model")


def tensors(path: Path, content: bytes) -> dict[str, Tensor]:
    """The state dict in a safetensors file, or in one of torch.save, where it may lie in one of PLACES.

    Names are those of the network itself, whatever it was wrapped in when it was saved.
    """
    try:
        if path.suffix == ".safetensors":
            return unwrapped(load(content))
        with torch.serialization.safe_globals([Namespace]):  # timm's script keeps its options beside the weights
            saved = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # safetensors and pickle raise whatever comes along
        raise unreadable(path, str(error)) from None
    while isinstance(saved, Mapping) and (place := next((key for key in PLACES if is_place(saved, key)), None)):
        saved = saved[place]
    if not isinstance(saved, Mapping) or not all(isinstance(value, Tensor) for value in saved.values()):
        raise unreadable(path, "no tensors by name")
    return unwrapped(saved)


def is_place(saved: Mapping[str, object], key: str) -> bool:
    return isinstance(saved.get(key), Mapping)


def unwrapped(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors without the prefixes of wrappers, and without an average's count of steps.

    `module.` is of DataParallel, DistributedDataParallel and AveragedModel, `_orig_mod.` of torch.compile.
    """
    names = {name: name.replace("_orig_mod.", "") for name in weights}
    kept = {name: short for name, short in names.items() if short != "n_averaged"}
    while kept and all(short.startswith("module.") for short in kept.values()):
        kept = {name: short.removeprefix("module.") for name, short in kept.items()}
    return {short: weights[name] for name, short in kept.items()}


def unreadable(path: Path, reason: str) -> StageError:
    return StageError(
        f"pretrained: {path} cannot be read as weights ({' '.join(reason.split())[:150]}); give a .safetensors file or"
        " a state dict saved by torch.save"
    )


def check(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], path: str) -> None:
    """Raise StageError naming the first tensor that differs."""
    fault = f"pretrained: {path} does not fit this network:"
    for key, value in wanted.items():
        if key not in found:
            raise StageError(f"{fault} it lacks {key} {tuple(value.shape)}")
        if found[key].shape != value.shape:
            raise StageError(f"{fault} {key} is {tuple(found[key].shape)} there and {tuple(value.shape)} here")
    foreign = next((key for key in found if key not in wanted), None)
    if foreign is not None:
        raise StageError(f"{fault} it has {foreign} {tuple(found[foreign].shape)}, which this network has not")
