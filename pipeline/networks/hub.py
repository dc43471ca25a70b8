"""Weights that others published: whether they are on this machine or can be had, found out in seconds.

The libraries that download them ask an absent host again and again, for most of a minute, before they say so.
"""

import contextlib
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import huggingface_hub
import torch
from huggingface_hub import constants
from huggingface_hub.errors import HfHubHTTPError

WAIT = 5.0  # seconds that a host has to answer
FILES = (  # what timm looks for in a repository
    "model.safetensors",
    "pytorch_model.bin",
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.bin",
)


@contextlib.contextmanager
def within_reach(config: Any) -> Iterator[None]:
    """A block in which timm loads the weights that `config` names: from the cache alone if they are there.

    Raises OSError where they are not and their host does not answer.
    """
    if config.hf_hub_id and in_cache(config.hf_hub_id, config.hf_hub_filename):
        before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
        try:
            yield
        finally:
            constants.HF_HUB_OFFLINE = before
        return
    if config.hf_hub_id:
        ask_hub(config.hf_hub_id)
    elif config.url and not downloaded(config.url).exists():
        ask(config.url)
    yield


def in_cache(hub_id: str, filename: str | None = None) -> bool:
    """Whether weights of a repository lie in the hub's cache, HF_HUB_CACHE."""
    repository, _, revision = hub_id.partition("@")
    names = (filename, *FILES) if filename else FILES
    found = (huggingface_hub.try_to_load_from_cache(repository, name, revision=revision or None) for name in names)
    return any(isinstance(place, str) for place in found)


def ask_hub(hub_id: str) -> None:
    """Raise OSError if the hub does not answer; whatever it answers, timm will tell."""
    repository, _, revision = hub_id.partition("@")
    url = huggingface_hub.hf_hub_url(repository, "config.json", revision=revision or None)
    try:
        huggingface_hub.get_hf_file_metadata(url, timeout=WAIT)
    except HfHubHTTPError:
        return
    except Exception as error:  # of the HTTP client that the hub's library happens to use
        raise OSError(str(error) or type(error).__name__) from error


def ask(url: str) -> None:
    """Raise OSError if the host of `url` does not answer."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=WAIT):
            pass
    except urllib.error.HTTPError:
        return


def downloaded(url: str) -> Path:
    """Where torch.hub keeps the file that it downloads from `url`."""
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name
