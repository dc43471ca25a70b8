"""The parts that images are divided into, training, validation and test: stratified, by subject, in folds."""

import hashlib
import math

import numpy as np

from pipeline.base.errors import StageError
from pipeline.datasets.raw import Raw

DRAWN = {"test": "split.test_fraction", "val": "split.val_fraction"}  # split -> the key that says how much is drawn


def assign(
    raw: Raw, val_fraction: float, test_fraction: float, seed: int, val_seed: int | None = None
) -> dict[str, np.ndarray]:
    """Rows of data/raw per split, ascending. Raises StageError if a class is too small to be split.

    Official splits stay. With `val_seed` validation images are drawn by it: official ones anew, as many as there were,
    from them and the training images together.
    """
    rows = {split: np.flatnonzero(raw.splits == split) for split in ("train", "val", "test")}
    rows["train"] = np.flatnonzero((raw.splits == "train") | (raw.splits == ""))
    if val_seed is not None and len(official := rows["val"]):
        rows["train"], rows["val"] = np.union1d(rows["train"], official), official[:0]
        val_fraction = (len(official) - 0.5) / len(rows["train"])  # rounded up it gives as many
    of_val = seed if val_seed is None else val_seed
    for split, fraction, by in (("test", test_fraction, seed), ("val", val_fraction, of_val)):
        if not len(rows[split]):
            rows["train"], rows[split] = draw(rows["train"], raw.labels, raw.classes, split, fraction, by)
    return rows


def cross_validated(raw: Raw, folds: int, by: str, val_fraction: float, seed: int) -> list[dict[str, np.ndarray]]:
    """`assign` for each fold: every image is a test image in one of them; stratified, by images or by whole subjects.

    By subject, nobody is in two of a fold's three parts. Raises StageError where there is an official test split, no
    subjects are known, or too few images or subjects for so many folds.
    """
    if (raw.splits == "test").any():
        raise StageError("params.yaml: split.folds: this data set has an official test split; choose 0")
    return (folds_by_image if by == "image" else folds_by_subject)(raw, folds, val_fraction, seed)


def folds_by_image(raw: Raw, folds: int, val_fraction: float, seed: int) -> list[dict[str, np.ndarray]]:
    """Stratified folds of single images."""
    from sklearn.model_selection import StratifiedKFold

    labels = raw.labels
    fewest = np.bincount(labels, minlength=len(raw.classes)).min()
    if fewest < folds:
        raise StageError(f"params.yaml: split.folds: {folds} folds, but a class has {fewest} images; choose fewer")
    splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
    assigned = []
    for rest, test in splitter.split(labels, labels):
        train, val = draw(rest, labels, raw.classes, "val", val_fraction, seed)
        assigned.append({"train": train, "val": val, "test": test})
    return assigned


def folds_by_subject(raw: Raw, folds: int, val_fraction: float, seed: int) -> list[dict[str, np.ndarray]]:
    """Stratified folds of whole subjects."""
    from sklearn.model_selection import StratifiedGroupKFold

    if not (raw.subjects != "").all():
        raise StageError("params.yaml: split.folds_by: this data set does not say who is in its images; choose image")
    people, inner = len(np.unique(raw.subjects)), max(2, round(1 / val_fraction))
    least = max(folds, math.ceil(inner * folds / (folds - 1)))  # those that are not tested are split once more
    if people < least:
        raise StageError(
            f"params.yaml: split.folds: {folds} folds by subject and split.val_fraction {val_fraction} need {least}"
            f" subjects, but there are {people}; choose fewer folds or a larger fraction"
        )

    def parted(rows: np.ndarray, parts: int) -> list[tuple[np.ndarray, np.ndarray]]:
        splitter = StratifiedGroupKFold(parts, shuffle=True, random_state=seed)
        found = splitter.split(rows, raw.labels[rows], raw.subjects[rows])
        return [(rows[kept], rows[taken]) for kept, taken in found]

    assigned = []
    for rest, test in parted(np.arange(len(raw.labels)), folds):
        train, val = parted(rest, inner)[0]
        assigned.append({"train": train, "val": val, "test": test})
    return assigned


def settle_duplicates(raw: Raw, rows: dict[str, np.ndarray], rule: str) -> tuple[dict[str, np.ndarray], int]:
    """What becomes of training and validation images whose pixels a later split holds too, and how many were dropped.

    "keep" leaves them; "drop" leaves them out of training and validation, so that the test images stay whole; "error"
    raises StageError, naming the first.
    """
    if rule == "keep":
        return rows, 0
    kept = dict(rows)
    seen = {_digest(raw, row): row for row in rows["test"]}
    for split in ("val", "train"):
        copies = [row for row in rows[split] if _digest(raw, row) in seen]
        if copies and rule == "error":
            first = copies[0]
            raise StageError(
                f"split: {len(copies):,} {split} images have the pixels of images kept apart from them, such as"
                f" {raw.names[first]} those of {raw.names[seen[_digest(raw, first)]]}; split.duplicates: drop leaves"
                " them out of training and validation, keep ignores them"
            )
        kept[split] = np.setdiff1d(rows[split], copies)
        seen.update((_digest(raw, row), row) for row in kept[split])
    for split in ("val", "train"):
        lost = np.setdiff1d(raw.labels[rows[split]], raw.labels[kept[split]])
        if len(lost):
            raise StageError(
                f"split: every {split} image of class {raw.classes[lost[0]]!r} has the pixels of an image kept apart;"
                " set split.duplicates: keep or mend the data"
            )
    return kept, sum(len(rows[split]) - len(kept[split]) for split in ("val", "train"))


def _digest(raw: Raw, row: int) -> bytes:
    return hashlib.blake2b(raw.image(row).tobytes(), digest_size=16, salt=b"%d" % raw.shapes[row][0]).digest()


def draw(
    rows: np.ndarray, labels: np.ndarray, classes: list[str], split: str, fraction: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """What stays of `rows` and what is drawn from them, stratified, both ascending.

    Raises StageError unless every class has an image in both.
    """
    from sklearn.model_selection import train_test_split

    counts = np.bincount(labels[rows], minlength=len(classes))  # (K,)
    drawn = math.ceil(fraction * len(rows))
    needed = math.ceil(1 / min(fraction, 1 - fraction))
    smallest = int(counts.argmin())
    if counts[smallest] >= 2 and min(drawn, len(rows) - drawn) >= len(classes):
        kept, taken = train_test_split(rows, test_size=fraction, random_state=seed, stratify=labels[rows])
        parts = np.minimum(*(np.bincount(labels[part], minlength=len(classes)) for part in (kept, taken)))
        if parts.all():
            return np.sort(kept), np.sort(taken)
        smallest = int(parts.argmin())
    raise StageError(
        f"class {classes[smallest]!r} has {counts[smallest]:,} images, too few to draw {fraction:.0%} of them for"
        f" {split} and keep some for training: {needed} or more are needed; add images of it, leave the class out, or"
        f" change {DRAWN[split]}"
    )


def thin(rows: np.ndarray, labels: np.ndarray, imbalance: float, seed: int) -> np.ndarray:
    """Training rows thinned to an exponential long tail (Cui et al. 2019, arXiv:1901.05555, sec. 5.1), ascending.

    Class c of K in label order keeps n_max * imbalance^(-c / (K-1)) images, at least 1 and never more than it has;
    n_max is the largest class. What a larger imbalance keeps, a smaller one keeps too.
    """
    counts = np.bincount(labels[rows])  # (K,)
    kept = []
    for label, wanted in enumerate(tail(counts, imbalance)):
        own = rows[labels[rows] == label]
        order = np.random.default_rng([seed, label]).permutation(len(own))
        kept.append(own[order[:wanted]])
    return np.sort(np.concatenate(kept))


def tail(counts: np.ndarray, imbalance: float) -> np.ndarray:
    """Images that each class keeps, (K,) from (K,)."""
    if imbalance == 1:
        return counts
    profile = counts.max() * imbalance ** (-np.arange(len(counts)) / (len(counts) - 1))
    return np.minimum(counts, np.maximum(1, np.floor(profile + 1e-9).astype(np.int64)))


def minority_classes(classes: list[str], counts: np.ndarray) -> list[str]:
    """Classes with fewer training images than the median class."""
    return [name for name, n in zip(classes, counts, strict=True) if n < np.median(counts)]
