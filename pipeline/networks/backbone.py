"""timm networks by name, from scratch, with ImageNet weights from the hub, or with weights from a local file."""

import contextlib
import difflib
import logging
import re
import warnings
from collections.abc import Iterator
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
        read_weights(pretrained)
        arguments["pretrained_cfg_overlay"] = {"file": str(Path(pretrained).expanduser())}
    try:
        with warnings.catch_warnings(), _loading_log() as log:
            warnings.simplefilter("ignore")
            network = timm.create_model(backbone, pretrained=bool(pretrained), **arguments)
    except Exception as error:
        if pretrained is True and "No pretrained weights exist" in str(error):
            raise StageError(f"pretrained: timm has no weights of {backbone}; give a file's path or false") from None
        if pretrained is True and _unreachable(error):
            source = f"https://huggingface.co/{config.hf_hub_id or 'timm'}" if config is not None else "timm's pages"
            raise StageError(
                f"pretrained: the ImageNet weights of {backbone} cannot be downloaded ({_reason(error)}); download"
                f" model.safetensors from {source} on another machine and set `pretrained` to that file's path"
            ) from None
        if isinstance(pretrained, str) and isinstance(error, (RuntimeError, KeyError, OSError, ValueError)):
            raise StageError(f"pretrained: {pretrained} does not fit {backbone}: {_reason(error)}") from None
        raise
    if isinstance(pretrained, str):
        _check_loaded(log, f"pretrained: {pretrained} does not fit {backbone}", arguments, config)
    return network


def read_weights(pretrained: str) -> dict[str, Any]:
    """The tensors of a local file by name."""
    path = Path(pretrained).expanduser()
    if not path.is_file():
        raise StageError(f"pretrained: no file {pretrained!r}; give a path from the study's folder, true or false")
    try:
        return timm.models.load_state_dict(str(path))
    except Exception as error:  # whatever safetensors and pickle raise on bytes that are not theirs
        raise StageError(
            f"pretrained: {path} cannot be read as weights ({type(error).__name__}: {_reason(error)}); give a"
            " .safetensors file or a state dict saved by torch.save"
        ) from None


@contextlib.contextmanager
def _loading_log() -> Iterator[list[str]]:
    """What timm logs of weights that it did not find or could not use; it raises nothing of it where classes differ."""
    log: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: log.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("timm.models._builder")
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield log
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate


def _check_loaded(log: list[str], fault: str, arguments: dict[str, Any], config: Any) -> None:
    """Raise StageError where the file lacked a tensor of the network, or held one of another; the head is replaced."""
    heads = config.classifier if config is not None else None
    prefixes = tuple(f"{head}." for head in ((heads,) if isinstance(heads, str) else heads or ()))

    def keys(kind: str) -> list[str]:
        found = re.search(rf"{kind} keys \((.*?)\)", "\n".join(log))
        return [key for key in found[1].split(", ") if not key.startswith(prefixes)] if found else []

    if lacking := keys("Missing"):
        raise StageError(f"{fault}: it lacks {len(lacking)} of the network's tensors, {lacking[0]} first")
    if (foreign := keys("Unexpected")) and not arguments.get("features_only"):  # which leaves out what it does not need
        raise StageError(f"{fault}: it has {len(foreign)} tensors that the network has not, {foreign[0]} first")


def _unreachable(error: BaseException) -> bool:
    """Whether a network or a missing file on the hub lies behind an error."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool(names & {"OSError", "HfHubHTTPError", "LocalEntryNotFoundError", "HTTPError", "TransportError"}) or (
        "weights" in str(error) and "pretrained" in str(error).lower()
    )


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
