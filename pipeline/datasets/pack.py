"""Images of one size, packed one after another, with their labels and the statistics of their colours."""

import csv
import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.base.places import cores
from pipeline.datasets.raw import Raw
from pipeline.datasets.resize import fitted

RUN = 256  # values whose squares add up to less than 2**24: float32 holds them as they are


def pack(raw: Raw, rows: dict[str, np.ndarray], image_size: int, resize: str, fit: Path, test: Path) -> dict[str, str]:
    """Write the images, labels and manifests into the new folders `fit` and `test`; returns their digests.

    Square images of one size not above `image_size` keep it; all others become `image_size`. The training and
    validation images decide size and channels, and the test images are brought into the same form.
    """
    shapes = raw.shapes[np.concatenate([rows["train"], rows["val"]])]  # (N, 3)
    native = (shapes[:, :2] == shapes[0, 0]).all() and shapes[0, 0] <= image_size
    side = int(shapes[0, 0]) if native else image_size
    channels = int(shapes[:, 2].max())

    digests = {}
    for name, folder, splits in (("fit", fit, ("train", "val")), ("test", test, ("test",))):
        folder.mkdir(parents=True)
        digest = hashlib.sha256(json.dumps([raw.classes, side, channels]).encode())
        for split in splits:
            prefix = "" if split == "test" else f"{split}_"
            labels = raw.labels[rows[split]]
            np.save(folder / f"{prefix}labels.npy", labels)
            digest.update(json.dumps([split, len(labels)]).encode() + labels.tobytes())
            images = np.lib.format.open_memmap(
                folder / f"{prefix}images.npy", mode="w+", dtype=np.uint8, shape=(len(labels), side, side, channels)
            )
            for start, chunk in resized(raw, rows[split], side, channels, resize):
                images[start : start + len(chunk)] = chunk
                digest.update(chunk.data)
            images.flush()
        if raw.votes is not None and name == "fit":
            np.save(folder / "train_votes.npy", votes := raw.votes[rows["train"]])
            digest.update(votes.tobytes())
        write_manifest(folder / "manifest.csv", raw, rows, splits)
        digests[name] = digest.hexdigest()
    return digests


def resized(
    raw: Raw, rows: np.ndarray, side: int, channels: int, resize: str, chunk: int = 512
) -> Iterator[tuple[int, np.ndarray]]:
    """The images in chunks, each with its place: uint8 (N, S, S, C)."""
    if (raw.shapes == (side, side, channels)).all():  # they lie as they are wanted
        images = np.asarray(raw.pixels).reshape(-1, side, side, channels)
        yield from ((start, images[rows[start : start + chunk]]) for start in range(0, len(rows), chunk))
        return
    with ThreadPoolExecutor(len(cores())) as pool:
        for start in range(0, len(rows), chunk):
            part = rows[start : start + chunk]
            yield start, np.stack(list(pool.map(lambda row: fitted(raw.image(row), side, channels, resize), part)))


def write_manifest(path: Path, raw: Raw, rows: dict[str, np.ndarray], splits: tuple[str, ...]) -> None:
    """One line per packed image: split (left out for test), row in its array, name and label."""
    with path.open("w", encoding="utf-8", newline="") as file:
        manifest = csv.writer(file, lineterminator="\n")
        columns = ["split", "row", "name", "label"]
        skipped = 1 if splits == ("test",) else 0
        manifest.writerow(columns[skipped:])
        classes = raw.classes
        for split in splits:
            labels = raw.labels[rows[split]].tolist()
            for place, (row, label) in enumerate(zip(rows[split].tolist(), labels, strict=True)):
                line = (split, place, raw.names[row], classes[label])
                manifest.writerow(line[skipped:])


def statistics(images: np.ndarray) -> dict[str, Any]:
    """Mean, deviation and covariance (C, C), as fractions of 255, of the channels of images (N, S, S, C) uint8.

    Exact: from sums of whole numbers.
    """
    channels, count = images.shape[-1], images[..., 0].size
    total, products = np.zeros(channels, dtype=np.int64), np.zeros((channels, channels), dtype=np.int64)
    planes = np.empty((channels, -(-images[:64, ..., 0].size // RUN), RUN), np.float32)
    for start in range(0, len(images), 64):
        _fill(planes, images[start : start + 64])
        total += [_sum(plane) for plane in planes]
        for one in range(channels):
            for other in range(one + 1):
                products[[one, other], [other, one]] += _sum(np.einsum("mr,mr->m", planes[one], planes[other]))
    mean = total / count
    covariance = (products / count - np.outer(mean, mean)) / 255**2
    return {
        "mean": (mean / 255).round(6).tolist(),
        "std": np.sqrt(covariance.diagonal().clip(0)).round(6).tolist(),
        "covariance": covariance.round(8).tolist(),
    }


def _fill(planes: np.ndarray, images: np.ndarray) -> None:
    """Copy each channel of images (N, S, S, C) into its plane (M, RUN), and zeros behind it."""
    for channel, plane in enumerate(planes.reshape(len(planes), -1)):
        values = np.ascontiguousarray(images[..., channel]).ravel()
        plane[: len(values)] = values
        plane[len(values) :] = 0


def _sum(numbers: np.ndarray) -> int:
    """The sum of whole numbers, exact below 2**53."""
    return int(numbers.sum(dtype=np.float64))
