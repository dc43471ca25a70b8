"""The networks: `build` makes any of them from plain values, one file per family."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pipeline.networks import hybrid, timm_classifier
from pipeline.stage import StageError

FAMILIES: dict[str, Callable[..., nn.Module]] = {"timm": timm_classifier.build, "hybrid": hybrid.build}


def build(
    family: str, *, name: str, classes: int, image_size: int, seed: int, pretrained: bool | str, **settings: Any
) -> nn.Module:
    """The network that `models.<name>` of params.yaml describes, initialised from `seed`.

    Takes images (N, 3, image_size, image_size) and gives logits (N, classes). Raises StageError for a backbone that
    timm does not have, arguments that it does not take, and weights that cannot be had or do not fit.
    """
    cuda = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(cuda):
        torch.manual_seed(seed)
        try:
            network = FAMILIES[family](classes=classes, image_size=image_size, pretrained=pretrained, **settings)
            with torch.no_grad():  # sizes the positional embedding, and refuses what does not fit together
                network.eval()(torch.zeros(1, 3, image_size, image_size))
        except StageError as error:
            raise StageError(f"params.yaml: models.{name}.{error}") from None
        except (RuntimeError, AssertionError, ValueError, TypeError) as error:
            reason = " ".join(str(error).split())[:300]
            raise StageError(
                f"params.yaml: models.{name}: cannot be built for images of {image_size} pixels: {reason}"
            ) from None
    return network


def weights_name(config: dict[str, Any]) -> bool | str:
    """`pretrained` for a report: a file by its name and the first digits of its SHA-256, not by where it lies."""
    pretrained = config["network"]["pretrained"]
    return f"{Path(pretrained).name} ({config['weights_sha256'][:12]})" if isinstance(pretrained, str) else pretrained


def initialisation(network: nn.Module, config: dict[str, Any]) -> str:
    """Where the first weights came from, in words for a report: timm's tag says which data and recipe."""
    name = weights_name(config)
    if not name:
        return "from scratch"
    if name is True:
        tags: Any = next(
            (module.pretrained_cfg for module in network.modules() if hasattr(module, "pretrained_cfg")), {}
        )
        name = f"{tags['architecture']}.{tags['tag']}"
    return f"backbone {name}, transformer from scratch" if config["network"]["family"] == "hybrid" else f"timm {name}"
