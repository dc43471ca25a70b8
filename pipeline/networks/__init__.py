"""The networks: `build` makes any of them from plain values, one file per family."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pipeline.base.errors import StageError, disk_full
from pipeline.networks.angular import add_angular
from pipeline.networks.pretrained import load_pretrained
from pipeline.params import registry

MODULES = {"timm": "timm_classifier", "torchvision": "torchvision_classifier"}  # of families called as libraries are


def build(
    family: str,
    *,
    name: str,
    classes: int,
    image_size: int,
    seed: int,
    angular: float | None = None,
    pretrained: bool | str | Mapping[str, str] = False,
    **settings: Any,
) -> nn.Module:
    """The network that `models.<name>` of params.yaml describes, initialised from `seed`.

    Takes images (N, C, image_size, image_size), C as `channels` says, and gives logits (N, classes); `angular` is the
    scale of a classifier by angle (0: the features' own lengths), None keeps the linear one. `pretrained` is what the
    family makes of true or a path, or the {path, sha256} of a whole network's weights. Raises StageError for a backbone
    that timm does not have, arguments that it does not take, weights that cannot be had or do not fit, and a technique
    that finds nothing to change.
    """
    cuda = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(cuda):
        torch.manual_seed(seed)
        try:
            network = _with_techniques(family, classes, image_size, pretrained, settings)
            if angular is not None:
                add_angular(network, classes, angular)
            try_out(network.eval(), 1, image_size, classes)  # sizes the positional embedding, too
            if isinstance(pretrained, Mapping):
                load_pretrained(network, pretrained["path"], pretrained["sha256"], classes)
        except StageError as error:
            raise StageError(f"params.yaml: models.{name}.{error}") from None
        except Exception as error:  # whatever a network of other people raises on settings that it does not take
            if disk_full(error):
                raise
            fault = _in_words(error, family, image_size, settings.get("args") or {})
            raise StageError(f"params.yaml: models.{name}{fault}") from None
    return network


def _with_techniques(
    family: str, classes: int, image_size: int, pretrained: bool | str | Mapping[str, str], settings: dict[str, Any]
) -> nn.Module:
    """A family's network with the techniques of the registry that `settings` has switched on."""
    given = {key: value for key, value in settings.items() if key not in registry.TECHNIQUES}
    published = pretrained if isinstance(pretrained, bool | str) else False
    network = builder(family)(classes=classes, image_size=image_size, pretrained=published, **given)
    for technique in registry.TECHNIQUES:
        if amount := settings.get(technique, False):
            add = getattr(registry.load("networks", technique), f"add_{technique}")
            add(network) if amount is True else add(network, amount)
    return network


def _in_words(error: Exception, family: str, image_size: int, args: Mapping[str, Any]) -> str:
    """What a library raised on settings that it does not take, as the end of a line that names the model."""
    reason = " ".join(str(error).split())[:300]
    if isinstance(error, KeyError) and (key := _argument(args, error.args)):
        return f".args.{key}: {family} knows no {reason}"
    if not isinstance(error, RuntimeError | AssertionError | ValueError | TypeError):
        reason = f"{type(error).__name__}: {reason}"  # alone, as of a missing key, it says too little
    return f": cannot be built for images of {image_size} pixels: {reason}"


def try_out(network: nn.Module, images: int, image_size: int, classes: int) -> None:
    """Raise StageError where a network makes anything but logits (images, classes) of so many images."""
    with torch.no_grad():
        found = network(torch.zeros(images, channels(network), image_size, image_size))
    shape = tuple(found.shape) if isinstance(found, torch.Tensor) else f"a {type(found).__name__}"
    if shape != (images, classes):
        when = " in training" if network.training else ""
        raise StageError(
            f"args: the network gives {shape}{when} where logits {(images, classes)} are wanted, a number for each of"
            f" {images} images and {classes} classes"
        )


def _argument(args: Mapping[str, Any], missing: tuple[Any, ...]) -> str:
    """The key of `args` whose value a library looked up in vain; empty if it is none of them."""
    return next((key for key, value in args.items() if (value,) == missing), "")


def require_published(family: str, backbone: str) -> None:
    """Raise StageError where a backbone's published weights are neither on this machine nor to be had, in seconds."""
    if family == "torchvision":
        from pipeline.networks import torchvision_classifier

        torchvision_classifier.require_published(backbone)
    else:
        from pipeline.networks.backbone import published

        with published(backbone):
            pass


def builder(family: str) -> Callable[..., nn.Module]:
    """The family's `build`; imported late, for timm takes seconds and networks of our own do without it."""
    return registry.load("networks", MODULES.get(family, family)).build


def channels(network: nn.Module) -> int:
    """How many channels the images have that a network takes: those of its first convolution."""
    return next((module.in_channels for module in network.modules() if isinstance(module, nn.Conv2d)), 3)


def head(network: nn.Module) -> nn.Module:
    """The layer that gives the logits: what a frozen backbone leaves to train."""
    if callable(classifier := getattr(network, "get_classifier", None)):  # timm's
        return classifier()
    layers = [module for module in network.modules() if isinstance(module, nn.Linear)]
    if not layers:
        raise StageError("train.tune: only a network whose last layer is linear has a head to train; choose full")
    return layers[-1]


def weights_name(config: dict[str, Any]) -> bool | str:
    """`pretrained` for a report: a file by its name and the first digits of its SHA-256, not by where it lies."""
    pretrained = config["network"]["pretrained"]
    if isinstance(pretrained, Mapping):
        return f"{Path(pretrained['path']).name} ({pretrained['sha256'][:12]})"
    return f"{Path(pretrained).name} ({config['weights_sha256'][:12]})" if isinstance(pretrained, str) else pretrained


def initialisation(network: nn.Module, config: dict[str, Any]) -> str:
    """Where the first weights came from, in words for a report: timm's tag says which data and recipe."""
    name = weights_name(config)
    if not name:
        return "from scratch"
    if isinstance(config["network"]["pretrained"], Mapping):
        return f"weights {name}"
    family = config["network"]["family"]
    if family == "torchvision":
        return f"torchvision {config['network']['backbone']} {name if name is not True else 'ImageNet-1K'}"
    if name is True:
        tags: Any = next(
            (module.pretrained_cfg for module in network.modules() if hasattr(module, "pretrained_cfg")), {}
        )
        name = f"{tags['architecture']}.{tags['tag']}"
    return f"backbone {name}, transformer from scratch" if family == "hybrid" else f"timm {name}"
