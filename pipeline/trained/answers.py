"""Images from anywhere, brought into the form that a network was trained on, and what it answers."""

import glob
import itertools
import json
import os
import sys
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.base.errors import StageError, legible, shown
from pipeline.base.places import FIT
from pipeline.base.places import replicate_folder as place
from pipeline.datasets.decode import decode
from pipeline.datasets.layouts import is_image, say_what_is_passed_over
from pipeline.datasets.resize import fitted
from pipeline.datasets.tree import FolderTree, reason, regular
from pipeline.images.packed import Images
from pipeline.images.picture import MOST_BYTES, SUFFIXES
from pipeline.inference import forward, loading
from pipeline.inference.device import memory_remedy, pick_device


@dataclass(frozen=True)
class Packed:
    """The form that split brings images into."""

    side: int
    channels: int
    resize: str


def packed(config: dict[str, Any], name: str) -> Packed:
    """How split packed the images that a network was trained on; data/fit has to be that of the training."""
    try:
        fit = place(FIT, config["replicate"])
        info = json.loads((fit / "info.json").read_text(encoding="utf-8"))
        digest, resize = info["digest"], info["resize"]
        _, side, _, channels = np.load(fit / "val_images.npy", mmap_mode="r").shape
    except (ValueError, KeyError, TypeError, EOFError):
        raise StageError(f"{FIT}: damaged; run `dvc checkout --force {FIT}` or `dvc repro -f split`") from None
    except FileNotFoundError:
        raise StageError(
            f"{FIT}: not found, and it says in what form {name} saw its images; run `dvc repro split`, or"
            f" `dvc checkout {FIT}` (`dvc pull {FIT}` from a remote)"
        ) from None
    if digest != config["data"]["digest"]:
        raise StageError(f"{name} was trained on other images than {FIT} holds; run `dvc repro` or `dvc checkout`")
    return Packed(side, channels, resize)


def readable(sources: Iterable[str], form: Packed, faults: list[dict[str, str]]) -> Iterator[tuple[str, np.ndarray]]:
    """Path and pixels (S, S, C) of every image that can be read; others are added to `faults` and said on stderr."""

    def fault(name: str, error: StageError) -> None:
        faults.append({"image": name, "error": str(error)})
        print(f"versus: {legible(str(error))}", file=sys.stderr)

    for source in sources:
        try:
            paths = files(source)
        except StageError as error:
            fault(source, error)
            continue
        for path in paths:
            try:
                image = read(path, form)
            except StageError as error:
                fault(str(path), error)
            else:
                yield str(path), image


def files(source: str) -> list[Path]:
    """The files that a name, a folder or a glob means, each once; of a folder, those named as images, in order."""
    path = Path(os.path.expanduser(source))  # pathlib's raises where there is no such user
    try:
        present, folder = path.exists(), path.is_dir()
    except OSError as error:
        raise StageError(f"{shown(source)}: cannot be read: {reason(error)}") from None
    if folder:
        if not (found := images(path)):
            raise StageError(f"{shown(source)}: no images in this folder ({', '.join(SUFFIXES)})")
        return found
    if present:
        return [path]
    matches = [Path(match) for match in sorted(glob.glob(str(path), recursive=True))]
    folders = {match for match in matches if match.is_dir()}  # `photos/**` means each of them and what is in it, too
    alone = [match for match in matches if match in folders or folders.isdisjoint(match.parents)]
    found = list(dict.fromkeys(path for match in alone for path in (images(match) if match in folders else [match])))
    if not found:
        raise StageError(f"{shown(source)}: " + ("no images in these folders" if matches else "no such file"))
    return found


def images(folder: Path) -> list[Path]:
    """The files of a folder and those below it that are named as images; the others are counted on stderr."""
    tree = FolderTree(folder)
    say_what_is_passed_over(tree)
    return [folder / name for name in tree.paths if is_image(name)]


def read(path: Path, form: Packed) -> np.ndarray:
    """One image file as split would pack it: uint8 (S, S, C)."""
    name = shown(str(path))
    try:
        with regular(path) as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise StageError(f"{name}: cannot be read: {reason(error)}") from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # `decode` refuses what Pillow warns of and matters
        pixels = decode(content, name)
    return fitted(pixels, form.side, form.channels, form.resize)


def scored(
    network: nn.Module, config: dict[str, Any], images: Iterable[tuple[str, np.ndarray]]
) -> Iterator[tuple[list[str], Tensor, Tensor]]:
    """Names, pixels (N, S, S, C) and logits (N, K) of named images (S, S, C), a batch of evaluate's size at a time."""
    size = config["train"]["batch_size"]
    device = pick_device("cpu" if config["train"]["device"] == "cpu" else "auto")
    network, form = network.to(device), loading.image_format(config)
    remaining = iter(images)
    while batch := list(itertools.islice(remaining, size)):
        pixels = torch.from_numpy(np.stack([image for _, image in batch]))
        unknown = torch.zeros(len(batch), dtype=torch.int64)
        with memory_remedy("free memory on the device"):
            yield (
                [name for name, _ in batch],
                pixels,
                forward.predict(network, Images(pixels, unknown), form, device, size),
            )


def ranked(logits: Tensor, classes: list[str], top: int) -> list[list[dict[str, Any]]]:
    """The `top` likeliest classes of each row of logits (N, K), the likeliest first."""
    probabilities, order = logits.double().softmax(1).sort(dim=1, descending=True, stable=True)
    return [
        [{"class": classes[index], "probability": share} for index, share in zip(places, shares, strict=True)]
        for places, shares in zip(order[:, :top].tolist(), probabilities[:, :top].tolist(), strict=True)
    ]
