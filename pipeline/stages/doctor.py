"""doctor: what is odd in the images of a study, and what leaks from test to training.

Reads data/fit and data/test of the first replicate as the networks see them; of folds one has all images. Leaves
reports/doctor.json: exact duplicates (equal pixels), near duplicates, equal pixels under two labels, blank images, and
the test images that training or validation holds too.
Changes nothing: `split.duplicates` decides what becomes of duplicates across training and test.

Near duplicates are found without comparing all pairs: random hyperplanes hash each image's grey thumbnail to a few bits
(Charikar 2002, SimHash), several times over; only images that share a hash are compared, by the correlation of their
thumbnails. Pairs of a correlation of 0.99 are missed about once in a hundred.

Legend: N images, S side, C channels, D pixels of a thumbnail.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.base.errors import StageError
from pipeline.base.files import write_json, written_whole
from pipeline.base.lines import folded
from pipeline.base.places import FIT, TEST, replicate_folder
from pipeline.base.process import run
from pipeline.images.manifest import image_names
from pipeline.params.read import load_params

REPORT = Path("reports/doctor.json")
SPLITS = ("train", "val", "test")
THUMBNAIL = 32  # pixels a side at most
NEAR = 0.99  # correlation of two thumbnails
BITS, TABLES = 20, 10
CROWD = 64  # images of one hash that each image is compared with, its neighbours in order
EXAMPLES = 24  # groups listed by name


@dataclass(frozen=True)
class Pack:
    """All images of a study, the three splits one after another."""

    parts: tuple[npt.NDArray[np.uint8], ...]  # (N, S, S, C) each, memory-mapped
    split: npt.NDArray[np.int64]  # (N,) index into SPLITS
    row: npt.NDArray[np.int64]  # (N,) row in the split
    label: npt.NDArray[np.int64]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    def chunks(self, size: int = 1024) -> Iterator[npt.NDArray[np.uint8]]:
        for part in self.parts:
            for start in range(0, len(part), size):
                yield part[start : start + size]


def main() -> None:
    pack = read(load_params().replicates[0])
    findings = examine(pack)
    with written_whole(REPORT) as partial:
        write_json(partial, findings)

    from pipeline.tracking import runs  # late: it imports mlflow, and a fault above should not wait for that

    with runs.data_run("doctor") as tracked:
        tracked.metrics({f"doctor/{key}": value for key, value in findings.items() if isinstance(value, int)})
        tracked.artifact(REPORT)
    print(folded(f"doctor: {summary(findings)}"))


def read(replicate: int) -> Pack:
    """A replicate's images."""
    parts, labels, names, split, row = [], [], [], [], []
    for index, name in enumerate(SPLITS):
        folder, prefix = (TEST, "") if name == "test" else (FIT, f"{name}_")
        folder = replicate_folder(folder, replicate)
        try:
            parts.append(np.load(folder / f"{prefix}images.npy", mmap_mode="r"))
            labels.append(np.load(folder / f"{prefix}labels.npy"))
        except FileNotFoundError as error:
            raise StageError(f"{error.filename}: not found; run `dvc repro split` first") from None
        of_split = image_names(folder, name)
        names += of_split
        split.append(np.full(len(of_split), index))
        row.append(np.arange(len(of_split)))
    return Pack(tuple(parts), np.concatenate(split), np.concatenate(row), np.concatenate(labels), tuple(names))


def examine(pack: Pack) -> dict[str, Any]:
    """Everything that the report says of the data; numbers first, then the rows and names behind them."""
    exact = groups_of(digests(pack))
    thumbnails = np.concatenate([thumbnail(chunk) for chunk in pack.chunks()])  # (N, D), of length 1 or 0
    first = np.arange(len(pack))  # of the images equal to one
    for group in exact:
        first[group] = group[0]
    near = [(a, b) for a, b in near_pairs(thumbnails) if first[a] != first[b]]
    conflicts = [group for group in exact if len(set(pack.label[group])) > 1]
    blank = np.flatnonzero(~thumbnails.any(1))
    leaked = leaks(pack, exact)
    return {
        "images": len(pack),
        "duplicate_images": sum(len(group) - 1 for group in exact),
        "duplicate_groups": len(exact),
        **{f"equal_{a}_{b}": n for (a, b), n in across(pack, exact).items()},
        "conflicting_labels": len(conflicts),
        "near_pairs": len(near),
        **{f"near_{a}_{b}": n for (a, b), n in across(pack, [list(pair) for pair in near]).items()},
        "blank_images": len(blank),
        "leaked_test_images": len(leaked),
        "near_correlation": NEAR,
        "leaked_test_rows": leaked,
        "conflicts": [describe(pack, group) for group in conflicts[:EXAMPLES]],
        "duplicates": [describe(pack, group) for group in exact[:EXAMPLES]],
        "near": [describe(pack, pair) for pair in near[:EXAMPLES]],
        "blank": [describe(pack, [index])[0] for index in blank[:EXAMPLES]],
    }


def digests(pack: Pack) -> list[bytes]:
    """One digest an image; equal pixels, equal digests."""
    return [hashlib.blake2b(image.tobytes(), digest_size=16).digest() for chunk in pack.chunks() for image in chunk]


def groups_of(keys: Sequence[bytes]) -> list[list[int]]:
    """The indices that share a key, two or more each."""
    members: dict[bytes, list[int]] = {}
    for index, key in enumerate(keys):
        members.setdefault(key, []).append(index)
    return [group for group in members.values() if len(group) > 1]


def thumbnail(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """(N, S, S, C) -> (N, D): grey, THUMBNAIL a side at most, mean 0, length 1; a blank image is all zeros."""
    grey = images.astype(np.float32).mean(-1)
    step = max(1, images.shape[1] // THUMBNAIL)
    side = images.shape[1] // step * step
    grey = grey[:, :side, :side].reshape(len(grey), side // step, step, side // step, step).mean((2, 4))
    flat = grey.reshape(len(grey), -1)
    flat -= flat.mean(1, keepdims=True)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    return np.divide(flat, length, out=np.zeros_like(flat), where=length > 1e-3)


def near_pairs(thumbnails: npt.NDArray[np.float32], seed: int = 0) -> list[tuple[int, int]]:
    """Pairs of thumbnails (N, D) that correlate by NEAR or more, ascending; blank ones left out."""
    rng = np.random.default_rng(seed)
    filled = np.flatnonzero(thumbnails.any(1))
    weights = 2 ** np.arange(BITS)
    found: set[tuple[int, int]] = set()
    for _ in range(TABLES):
        planes = rng.standard_normal((thumbnails.shape[1], BITS)).astype(np.float32)
        hashes = (thumbnails[filled] @ planes > 0) @ weights  # (N,)
        order = np.argsort(hashes, kind="stable")
        alike, ordered = hashes[order], filled[order]
        for gap in range(1, CROWD):
            first = np.flatnonzero(alike[gap:] == alike[:-gap])
            if not len(first):
                break
            for start in range(0, len(first), 4096):
                a, b = ordered[first[start : start + 4096]], ordered[first[start : start + 4096] + gap]
                close = np.einsum("nd,nd->n", thumbnails[a], thumbnails[b]) >= NEAR
                found.update((min(pair), max(pair)) for pair in zip(a[close].tolist(), b[close].tolist(), strict=True))
    return sorted(found)


def across(pack: Pack, groups: Sequence[Sequence[int]]) -> dict[tuple[str, str], int]:
    """For each two splits, the groups that lie in both."""
    counts: Counter[tuple[int, int]] = Counter()
    for group in groups:
        counts.update(combinations(sorted(set(pack.split[list(group)].tolist())), 2))
    return {(SPLITS[a], SPLITS[b]): counts[a, b] for a, b in combinations(range(len(SPLITS)), 2)}


def leaks(pack: Pack, groups: Sequence[Sequence[int]]) -> list[int]:
    """Rows of the test images whose pixels training or validation holds too, ascending."""
    test = SPLITS.index("test")
    mixed = [group for group in groups if (pack.split[list(group)] != test).any()]
    return sorted(int(pack.row[index]) for group in mixed for index in group if pack.split[index] == test)


def describe(pack: Pack, group: Sequence[int]) -> list[dict[str, Any]]:
    return [
        {"split": SPLITS[pack.split[index]], "name": pack.names[index], "label": int(pack.label[index])}
        for index in group
    ]


def summary(findings: dict[str, Any]) -> str:
    return (
        f"{findings['duplicate_images']:,} exact duplicates and {findings['near_pairs']:,} near pairs among"
        f" {findings['images']:,} images; {findings['leaked_test_images']:,} test images occur in training or"
        f" validation; {findings['conflicting_labels']:,} groups of equal images have two labels"
    )


if __name__ == "__main__":
    run(main)
