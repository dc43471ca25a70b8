"""The images that split packed, memory-mapped.

Shapes: N images, C channels, S side, K classes.
"""

import contextlib
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.base.errors import StageError


@dataclasses.dataclass(frozen=True)
class Images:
    """A split as it lies on disk: pixels (N, S, S, C) uint8, memory-mapped, and labels (N,).

    `shares` (N, K): of the people who voted on an image, those who saw each class; None: labels are all there is.
    """

    pixels: Tensor
    labels: Tensor
    shares: Tensor | None = None

    def targets(self, rows: Tensor) -> Tensor:
        """What a network is to answer on some images: labels (M,), or shares (M, K)."""
        return self.labels[rows] if self.shares is None else self.shares[rows]

    def __len__(self) -> int:
        return len(self.labels)


def read(folder: Path, prefix: str = "") -> Images:
    """Open a packed split, `folder/[prefix]images.npy` and its labels."""
    with _as_packed(folder):
        pixels = np.load(folder / f"{prefix}images.npy", mmap_mode="c")  # private pages: torch wants them writable
        labels = np.load(folder / f"{prefix}labels.npy")
    return Images(torch.from_numpy(pixels), torch.from_numpy(labels))


def with_votes(images: Images, folder: Path) -> Images:
    """Training images with the shares of FER+'s votes; the label of an image without a vote has them all."""
    try:
        votes = torch.from_numpy(np.load(folder / "train_votes.npy")).float()  # (N, K)
    except FileNotFoundError:
        raise StageError(
            "params.yaml: train.targets: votes: this source has none; FER2013 has them with FER+'s fer2013new.csv"
            " beside its table (dataset.source: a folder with both)"
        ) from None
    given = votes.sum(1, keepdim=True)
    alone = F.one_hot(images.labels, votes.shape[1]).float()
    return dataclasses.replace(images, shares=torch.where(given > 0, votes / given.clamp(min=1), alone))


def resident(images: Images, device: torch.device) -> Images:
    """The same split with its pixels in GPU memory, if they take less than a quarter of what is free there."""
    if device.type == "cuda" and images.pixels.nbytes < torch.cuda.mem_get_info(device)[0] / 4:
        return dataclasses.replace(images, pixels=images.pixels.to(device))
    return images


def joined(first: Images, second: Images) -> Images:
    """Two splits as one, in memory, the first's images first; labels are their targets."""
    return Images(torch.cat([first.pixels, second.pixels]), torch.cat([first.labels, second.labels]))


def rows(images: Images, chosen: slice | Tensor) -> Images:
    """Some of a split."""
    shares = images.shares[chosen] if images.shares is not None else None
    return Images(images.pixels[chosen], images.labels[chosen], shares)


def read_info(folder: Path) -> dict[str, Any]:
    """What split says of the images in `folder`."""
    with _as_packed(folder):
        info = dict(json.loads((folder / "info.json").read_text(encoding="utf-8")))
        if not {"classes", "digest"} <= info.keys():
            raise ValueError(folder)
        return info


@contextlib.contextmanager
def _as_packed(folder: Path) -> Iterator[None]:
    """Turn what files raise that are missing, or not as split packed them, into a StageError."""
    try:
        yield
    except FileNotFoundError as error:
        raise StageError(
            f"{error.filename}: not found; run `dvc repro` or `python -m pipeline.stages.split` first"
        ) from None
    except (ValueError, TypeError, EOFError):
        raise StageError(f"{folder}: damaged; run `dvc checkout --force {folder}` or `dvc repro -f split`") from None
