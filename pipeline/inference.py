"""A trained network on images: which device, in float32, and what to say when memory runs out."""

import contextlib
import ctypes
import json
import os
import platform
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from pipeline import loader, networks
from pipeline.stage import PassingError, StageError


def capabilities() -> dict[str, Any]:
    """What the processor can do, and its name; empty where torch does not say."""
    return getattr(torch.cpu, "get_capabilities", dict)()


def processor() -> str:
    return f"{capabilities().get('cpu_name') or platform.machine()}, {os.cpu_count()} cores"


def construct(config: dict[str, Any], info: dict[str, Any], normalise: str) -> tuple[nn.Module, loader.Format]:
    """The network that a resolved configuration describes, as it starts, and how it wants its images.

    `info` is what split says of the training images, `normalise` as in params.yaml.
    """
    (whole, crop), views = loader.sides(config["image_size"], config["augment"]), config["augment"]["test_crops"]
    if views in (2, 10) and not info["flip"]:
        raise StageError(
            f"params.yaml: augment.test_crops: {views} shows mirror images, which this data set forbids; choose"
            f" {views // 2}"
        )
    network = networks.build(
        name=config["model"],
        classes=len(info["classes"]),
        image_size=crop or whole,
        seed=config["replicate"],
        **config["network"],
    )
    return network, loader.format_for(whole, normalise, info["pixels"], networks.channels(network), crop, views)


def load(folder: Path) -> tuple[nn.Module, dict[str, Any]]:
    """A trained network with its configuration, as train left them in `folder`; StageError if they do not fit."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        whole, crop = loader.sides(config["image_size"], config.get("augment", {}))
        network = networks.build(
            name=config["model"],
            classes=len(config["classes"]),
            image_size=crop or whole,
            seed=0,
            **{**config["network"], "pretrained": False},
        )
        network.load_state_dict(load_file(folder / "weights.safetensors"))
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise StageError(
            f"{folder}: damaged, or trained by another version of this code ({reason}); run"
            f" `dvc checkout --force {folder}` or `dvc repro train@{folder.name}`"
        ) from None
    return network, config


def image_format(config: dict[str, Any]) -> loader.Format:
    """How the images of a trained network are to be presented to it."""
    mean, std = (tuple(config["normalise"][key]) for key in ("mean", "std"))
    augment = config.get("augment", {})
    whole, crop = loader.sides(config["image_size"], augment)
    return loader.Format(whole, mean, std, crop, augment.get("test_crops", 1))


def pick_device(device: str) -> torch.device:
    """`auto` is the GPU where there is one."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return torch.device(next(name for name in ("cuda", "mps", "cpu") if available[name]))
    if not available[device]:
        have = ", ".join(name for name in available if available[name])
        raise StageError(f"params.yaml: train.device: {device!r} is not to be had on this machine ({have}); try auto")
    return torch.device(device)


@torch.inference_mode()
def predict(
    network: nn.Module, images: loader.Images, form: loader.Format, device: torch.device, batch_size: int = 256
) -> Tensor:
    """Logits (N, K) in float32, on the CPU; the mean over an image's views where it has several."""
    network.eval()
    precise = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)  # float32 also in a GPU's convolutions
    batches = loader.view_batches(images, form, batch_size, device)
    with precise:
        return torch.cat([score(network, views) for views in batches]).cpu()


def score(network: nn.Module, views: list[Tensor]) -> Tensor:
    """Logits (N, K) of V views (N, C, S, S): their mean, whose softmax is the views' geometric mean, normalised.

    Logits, not probabilities: what is kept and calibrated are logits, and a view that is sure of a wrong class weighs
    no more than by how sure it is.
    """
    return torch.stack([network(view).float() for view in views]).mean(0)


def be_deterministic() -> None:
    """Have a GPU give the same bits again; an operation that cannot raises. On a CPU nothing changes."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False


def keep_freed_memory() -> None:
    """Have glibc keep what it frees: a network's activations are then not paged in anew at every step.

    On two CPU cores a step of a network with few channels takes a fifth less time; other C libraries are left alone.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if platform.libc_ver()[0] == "glibc" else None
    if mallopt is not None:
        trim_threshold, mmap_threshold, mmap_max = -1, -3, -4  # malloc.h
        for option, value in ((mmap_threshold, 2**30), (trim_threshold, 2**31 - 1), (mmap_max, 0)):
            mallopt(option, value)


@contextlib.contextmanager
def memory_remedy(remedy: str) -> Iterator[None]:
    """Turn an error for want of memory, or of an operation without a fixed order, into a StageError with the remedy."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # only CUDA's allocator has a class of its own
        if not isinstance(error, MemoryError) and not re.search(
            "out of memory|allocate memory|alloc_failed", str(error), re.IGNORECASE
        ):
            if "deterministic" in str(error) and torch.are_deterministic_algorithms_enabled():
                operation = str(error).split(" does not have")[0][:60]
                raise StageError(
                    f"params.yaml: train.deterministic: {operation} does not give the same bits twice on this device;"
                    " choose false, or train.device: cpu"
                ) from None
            raise
        raise PassingError(f"out of memory; {remedy}, and run again") from None
