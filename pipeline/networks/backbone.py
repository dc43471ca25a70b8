"""timm networks by name, from scratch, with ImageNet weights from the hub, or with weights from a local file."""

import contextlib
import difflib
import logging
import re
import warnings
from collections.abc import Iterator
from typing import Any

import timm
from torch import nn

from pipeline.base.errors import StageError
from pipeline.base.places import find
from pipeline.networks import hub
from pipeline.networks.pretrained import tensors


def create(backbone: str, *, image_size: int, pretrained: bool | str, **arguments: Any) -> nn.Module:
    """timm.create_model with errors that say what to do; networks of a fixed input size are made for `image_size`."""
    config = described(backbone)
    if config is not None and config.fixed_input_size:
        arguments = {"img_size": image_size, **arguments}
    reach: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
    if isinstance(pretrained, str):
        arguments["pretrained_cfg_overlay"] = {"state_dict": read_weights(pretrained)}
    elif pretrained:
        reach = published(backbone)
    try:
        with warnings.catch_warnings(), _loading_log() as log, reach:
            warnings.simplefilter("ignore")
            network = timm.create_model(backbone, pretrained=bool(pretrained), **arguments)
    except StageError:
        raise
    except Exception as error:
        if pretrained is True and _unreachable(error):
            raise _out_of_reach(backbone, error) from None
        if isinstance(pretrained, str) and isinstance(error, (RuntimeError, KeyError, OSError, ValueError)):
            raise StageError(f"pretrained: {pretrained} does not fit {backbone}: {_reason(error)}") from None
        raise
    if isinstance(pretrained, str):
        _check_loaded(log, f"pretrained: {pretrained} does not fit {backbone}", arguments, config)
        for module in network.modules():  # timm notes where the weights came from: here, in the weights themselves
            getattr(module, "pretrained_cfg", {}).pop("state_dict", None)
    return network


def described(backbone: str) -> Any:
    """What timm knows of a backbone's weights (None: nothing); raises StageError where it has no such network."""
    architecture, _, tag = backbone.partition(".")
    if ":" in backbone or "/" in backbone:
        raise StageError(
            f"backbone: got {backbone!r}; wanted a name of timm's own list, such as resnet18: weights from elsewhere"
            " come as a file, through `pretrained`"
        )
    if not timm.is_model(architecture):
        close = difflib.get_close_matches(architecture, timm.list_models(), n=3)
        hint = f"did you mean {' or '.join(close)}? " if close else ""
        raise StageError(f"backbone: timm has no {backbone!r}; {hint}timm.list_models() names them all")
    try:
        return timm.get_pretrained_cfg(backbone)
    except RuntimeError:
        known = [name.partition(".")[2] for name in timm.list_pretrained(f"{architecture}.*")]
        close = [f"{architecture}.{found}" for found in difflib.get_close_matches(tag, known, n=3)]
        hint = f"did you mean {' or '.join(close)}? " if close else ""
        raise StageError(
            f"backbone: timm has no weights {tag!r} of {architecture}; {hint}its weights are called"
            f" {', '.join(known) or 'nothing'}"
        ) from None


@contextlib.contextmanager
def published(backbone: str) -> Iterator[None]:
    """A block in which timm finds a backbone's published weights; raises StageError at once where they are not to be
    had."""
    config = described(backbone)
    if config is None or not config.has_weights:
        raise StageError(f"pretrained: timm has no weights of {backbone}; give a file's path or false")
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(hub.within_reach(config))
        except OSError as error:
            raise _out_of_reach(backbone, error) from None
        yield


def _out_of_reach(backbone: str, error: Exception) -> StageError:
    hub_id = described(backbone).hf_hub_id
    file, source = "model.safetensors", f"https://huggingface.co/{hub_id}"
    if not hub_id:
        file, source = "the file", described(backbone).url
    return StageError(
        f"pretrained: the ImageNet weights of {backbone} cannot be downloaded ({_reason(error)}); download"
        f" {file} from {source} on another machine and set `pretrained` to that file's path, or choose false"
    )


def read_weights(pretrained: str) -> dict[str, Any]:
    """The tensors of a local file by name; a relative path starts at the study's folder."""
    path = find(pretrained)
    if path is None or not path.is_file():
        raise StageError(f"pretrained: no file {pretrained!r}; give a path from the study's folder, true or false")
    return tensors(path, path.read_bytes())


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
