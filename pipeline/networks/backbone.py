"""timm networks by name, from scratch, with ImageNet weights from the hub, or with weights from a local file."""

import difflib
import warnings
from pathlib import Path
from typing import Any

import timm
from torch import nn

from pipeline.stage import StageError


def create(backbone: str, *, image_size: int, pretrained: bool | str, **arguments: Any) -> nn.Module:
    """timm.create_model with errors that say what to do; networks of a fixed input size are made for `image_size`."""
    architecture = backbone.split(".")[0]
    if not timm.is_model(architecture):
        close = difflib.get_close_matches(architecture, timm.list_models(), n=3)
        hint = f"did you mean {' or '.join(close)}? " if close else ""
        raise StageError(f"backbone: timm has no {backbone!r}; {hint}timm.list_models() names them all")
    config = timm.get_pretrained_cfg(backbone)
    if config is not None and config.fixed_input_size:
        arguments = {"img_size": image_size, **arguments}
    if isinstance(pretrained, str):
        path = Path(pretrained).expanduser()
        if not path.is_file():
            raise StageError(f"pretrained: no file {pretrained!r}; give a path from the study's folder, true or false")
        arguments["pretrained_cfg_overlay"] = {"file": str(path)}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return timm.create_model(backbone, pretrained=bool(pretrained), **arguments)
    except Exception as error:
        if pretrained is True and _unreachable(error):
            source = f"https://huggingface.co/{config.hf_hub_id or 'timm'}" if config is not None else "timm's pages"
            raise StageError(
                f"pretrained: the ImageNet weights of {backbone} cannot be downloaded ({_reason(error)}); download"
                f" model.safetensors from {source} on another machine and set `pretrained` to that file's path"
            ) from None
        if isinstance(pretrained, str) and isinstance(error, (RuntimeError, KeyError, OSError, ValueError)):
            raise StageError(f"pretrained: {pretrained} does not fit {backbone}: {_reason(error)}") from None
        raise


def _unreachable(error: BaseException) -> bool:
    """Whether a network or a missing file on the hub lies behind an error."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool(names & {"OSError", "HfHubHTTPError", "LocalEntryNotFoundError", "HTTPError", "TransportError"}) or (
        "weights" in str(error) and "pretrained" in str(error).lower()
    )


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
