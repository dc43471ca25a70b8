"""The networks: `build` makes any of them from plain values, one file per family."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pipeline.networks.angular import add_angular
from pipeline.networks.blurpool import add_blurpool
from pipeline.networks.pretrained import load_pretrained
from pipeline.networks.squeeze_excite import add_squeeze_excite
from pipeline.stage import StageError


def build(
    family: str,
    *,
    name: str,
    classes: int,
    image_size: int,
    seed: int,
    blurpool: bool = False,
    squeeze_excite: float = 0.0,
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
            published = pretrained if isinstance(pretrained, bool | str) else False
            network = builder(family)(classes=classes, image_size=image_size, pretrained=published, **settings)
            if blurpool:
                add_blurpool(network)
            if squeeze_excite:
                add_squeeze_excite(network, squeeze_excite)
            if angular is not None:
                add_angular(network, classes, angular)
            with torch.no_grad():  # sizes the positional embedding, and refuses what does not fit together
                network.eval()(torch.zeros(1, channels(network), image_size, image_size))
            if isinstance(pretrained, Mapping):
                load_pretrained(network, pretrained["path"], pretrained["sha256"], classes)
        except StageError as error:
            raise StageError(f"params.yaml: models.{name}.{error}") from None
        except (RuntimeError, AssertionError, ValueError, TypeError) as error:
            reason = " ".join(str(error).split())[:300]
            raise StageError(
                f"params.yaml: models.{name}: cannot be built for images of {image_size} pixels: {reason}"
            ) from None
    return network


def builder(family: str) -> Callable[..., nn.Module]:
    """The family's `build`; imported late, for timm takes seconds and networks of our own do without it."""
    if family == "tiny":
        from pipeline.networks import tiny

        return tiny.build
    if family == "cbam_resnet":
        from pipeline.networks import cbam_resnet

        return cbam_resnet.build
    if family == "hybrid":
        from pipeline.networks import hybrid

        return hybrid.build
    if family == "alexnet":
        from pipeline.networks import alexnet

        return alexnet.build
    if family == "torchvision":
        from pipeline.networks import torchvision_classifier

        return torchvision_classifier.build
    from pipeline.networks import timm_classifier

    return timm_classifier.build


def channels(network: nn.Module) -> int:
    """How many channels the images have that a network takes: those of its first convolution."""
    return next((module.in_channels for module in network.modules() if isinstance(module, nn.Conv2d)), 3)


def head(network: nn.Module) -> nn.Module:
    """The layer that gives the logits: what a frozen backbone leaves to train."""
    if callable(classifier := getattr(network, "get_classifier", None)):  # timm's
        return classifier()
    return [module for module in network.modules() if isinstance(module, nn.Linear)][-1]


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
