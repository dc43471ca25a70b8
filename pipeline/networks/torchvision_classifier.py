"""torchvision's classifiers by name, from scratch, with its own ImageNet weights, or with weights from a local file."""

import difflib
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from pipeline.base.errors import StageError
from pipeline.networks import hub
from pipeline.networks.backbone import read_weights


def build(
    *,
    backbone: str,
    classes: int,
    image_size: int,  # noqa: ARG001 (all of them take what they are given, or fail when tried)
    pretrained: bool | str = False,
    dropout: float = 0.0,
    args: dict[str, Any] | None = None,
) -> nn.Module:
    """Images (N, 3, S, S) -> logits (N, classes); `dropout` 0 leaves the network's own."""
    if backbone not in (known := torchvision.models.list_models(module=torchvision.models)):
        close = difflib.get_close_matches(backbone, known, n=3)
        hint = f"did you mean {' or '.join(close)}? " if close else ""
        raise StageError(f"backbone: torchvision has no {backbone!r}; {hint}torchvision.models.list_models() names all")
    options = {"num_classes": classes, **({"dropout": dropout} if dropout else {}), **(args or {})}
    network = torchvision.models.get_model(backbone, weights=None, **options)
    if pretrained:
        load(network, _weights(backbone, pretrained), f"pretrained: {pretrained} does not fit {backbone}")
    return network


def load(network: nn.Module, weights: dict[str, Tensor], fault: str) -> None:
    """Every tensor but those of the last linear layer; raises StageError where the file lacks one or has others."""
    head = last_linear(network)
    own = {name: tensor for name, tensor in network.state_dict().items() if name.rpartition(".")[0] != head}
    given = {name: tensor for name, tensor in weights.items() if name.rpartition(".")[0] != head}
    if lacking := [name for name in own if name not in given]:
        raise StageError(f"{fault}: it lacks {len(lacking)} of the network's tensors, {lacking[0]} first")
    if foreign := [name for name in given if name not in own]:
        raise StageError(f"{fault}: it has {len(foreign)} tensors that the network has not, {foreign[0]} first")
    if other := [name for name in own if own[name].shape != given[name].shape]:
        shapes = f"{tuple(given[other[0]].shape)}, not {tuple(own[other[0]].shape)}"
        raise StageError(f"{fault}: {other[0]} has the shape {shapes}")
    network.load_state_dict(given, strict=False)


def last_linear(network: nn.Module) -> str:
    """The name of the layer that gives the logits."""
    return [name for name, module in network.named_modules() if isinstance(module, nn.Linear)][-1]


def _weights(backbone: str, pretrained: bool | str) -> dict[str, Tensor]:
    if isinstance(pretrained, str):
        return read_weights(pretrained)
    weights = torchvision.models.get_model_weights(backbone).DEFAULT
    require_published(backbone)
    try:
        return weights.get_state_dict(check_hash=True, map_location=torch.device("cpu"))
    except (OSError, RuntimeError) as error:
        raise _out_of_reach(backbone, error) from None


def require_published(backbone: str) -> None:
    """Raise StageError where a backbone's ImageNet weights are neither on this machine nor to be had."""
    url = torchvision.models.get_model_weights(backbone).DEFAULT.url
    try:
        if not hub.downloaded(url).exists():
            hub.ask(url)
    except OSError as error:
        raise _out_of_reach(backbone, error) from None


def _out_of_reach(backbone: str, error: Exception) -> StageError:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    url = torchvision.models.get_model_weights(backbone).DEFAULT.url
    return StageError(
        f"pretrained: the ImageNet weights of {backbone} cannot be downloaded ({reason}); download {url} on another"
        " machine and set `pretrained` to that file's path, or choose false"
    )
