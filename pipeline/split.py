"""split: stratified training, validation and test images, thinned and packed.

Reads data/raw. Leaves `data/fit/` (training and validation), apart from it `data/test/`, and `reports/data.json`.
Nothing in data/fit depends on what a test image looks like. Official splits are kept; where there is none, test
images are drawn first, then validation images, each stratified and from the split's own seed. With `split.folds`, both
folders hold one folder for each fold, named 0, 1, 2.

Legend: N images, S side, C channels (1 grey, 3 RGB), K classes.
"""

import csv
import hashlib
import json
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import params
from pipeline.resize import fitted
from pipeline.stage import StageError, cores, run, shown, study, whole, write_json
from pipeline.subset import subset

RAW, FIT, TEST, REPORT = Path("data/raw"), Path("data/fit"), Path("data/test"), Path("reports/data.json")
DRAWN = {"test": "split.test_fraction", "val": "split.val_fraction"}  # split -> the key that says how much is drawn


def main() -> None:
    config = params.load()
    raw = Raw.open(RAW)
    rule, seed = config.split, config.split.seed
    if rule.folds:
        assigned = cross_validated(raw, rule.folds, rule.folds_by, rule.val_fraction, seed)
    else:
        assigned = [assign(raw, rule.val_fraction, rule.test_fraction, seed)]
    parts = []
    for rows in assigned:
        unique, dropped = settle_duplicates(raw, rows, rule.duplicates)
        thinned_rows = thin(unique["train"], raw.labels, config.dataset.imbalance, seed)
        fraction = subset(raw.labels[thinned_rows], config.dataset.train_fraction, seed)
        parts.append(({**unique, "train": thinned_rows[fraction]}, dropped, len(unique["train"])))

    with whole(FIT) as fit, whole(TEST) as test, whole(REPORT) as report:
        summaries = []
        for fold, (rows, dropped, _) in enumerate(parts):
            places = (fit / str(fold), test / str(fold)) if rule.folds else (fit, test)
            summaries.append(leave(raw, config, assigned[fold], rows, *places) | {"dropped": dropped})
        first = summaries[0]  # of folds, what the report counts
        content = {key: value for key, value in first.items() if key != "dropped"}
        content["train_fraction"] = config.dataset.train_fraction
        if rule.folds:
            content["cross_validation"] = {"folds": rule.folds, "by": rule.folds_by}
            joined = {name: "".join(each["digests"][name] for each in summaries) for name in ("fit", "test")}
            content["digests"] = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in joined.items()}
        dropped = sum(each["dropped"] for each in summaries)
        write_json(report, {**content, "duplicates": {"rule": rule.duplicates, "dropped": dropped}})
    rows = parts[0][0]
    counts = {split: np.bincount(raw.labels[rows[split]], minlength=len(raw.classes)) for split in rows}  # (K,)
    log(raw, config.dataset.source, counts, first["minority"], content["digests"])
    sizes = ", ".join(f"{len(rows[split]):,} {split}" for split in ("train", "val", "test"))
    thinned = f" (thinned from {kept:,})" if len(rows["train"]) < (kept := parts[0][2]) else ""
    gone = f", {dropped:,} dropped that test or validation images equal" if dropped else ""
    folds = f" in the first of {rule.folds} folds by {rule.folds_by}" if rule.folds else ""
    minority = ", ".join(map(shown, first["minority"])) or "none"
    print(f"split: {sizes} images{folds}{thinned}{gone}; minority classes: {minority}")


def leave(
    raw: "Raw", config: params.Params, found: dict[str, np.ndarray], rows: dict[str, np.ndarray], fit: Path, test: Path
) -> dict[str, Any]:
    """Write one split into the folders `fit` and `test`; returns what the report says of it."""
    counts = {split: np.bincount(raw.labels[rows[split]], minlength=len(raw.classes)) for split in rows}  # (K,)
    minority = minority_classes(raw.classes, counts["train"])
    digests = pack(raw, rows, config.dataset.image_size, config.dataset.resize, fit, test)
    per_class = {split: {c: int(n) for c, n in zip(raw.classes, counts[split], strict=True)} for split in counts}
    pixels = statistics(np.load(fit / "train_images.npy", mmap_mode="r"))
    write_json(fit / "info.json", fit_info(raw, minority, per_class, digests["fit"], pixels, config.split.seed))
    shareable = raw.info["shareable"]
    write_json(test / "info.json", {"classes": list(raw.classes), "digest": digests["test"], "shareable": shareable})
    return summary(raw, config.dataset.imbalance, minority, found, per_class, digests)


@dataclass(frozen=True)
class Raw:
    """What fetch left in data/raw; pixels stay on disk."""

    info: dict[str, Any]
    names: list[str]
    splits: np.ndarray  # (N,) train, val, test or empty
    labels: np.ndarray  # int64 (N,)
    shapes: np.ndarray  # int64 (N, 3): H, W, C
    offsets: np.ndarray  # int64 (N,)
    pixels: np.ndarray  # uint8, all images one after another
    subjects: np.ndarray  # (N,) who is in the image, or empty
    votes: np.ndarray | None = None  # uint8 (N, K) how many people saw each class in it

    @classmethod
    def open(cls, folder: Path) -> "Raw":
        try:
            info = json.loads((folder / "info.json").read_text(encoding="utf-8"))
            with (folder / "index.csv").open(encoding="utf-8", newline="") as file:
                head, *lines = csv.reader(file)
            pixels = np.memmap(folder / "pixels.bin", dtype=np.uint8, mode="r")
        except FileNotFoundError as error:
            raise StageError(f"{error.filename}: not found; run the stage fetch first (dvc repro fetch)") from None
        label, voted = {name: number for number, name in enumerate(info["classes"])}, folder / "votes.csv"
        index = dict(zip(head, zip(*lines, strict=True), strict=True))
        return cls(
            info=info,
            names=list(index["name"]),
            splits=np.array(index["split"]),
            labels=np.array([label[name] for name in index["label"]], dtype=np.int64),
            shapes=np.array([index[side] for side in ("height", "width", "channels")], dtype=np.int64).T,
            offsets=np.array(index["offset"], dtype=np.int64),
            pixels=pixels,
            subjects=np.array(index["subject"]),
            votes=np.loadtxt(voted, np.uint8, delimiter=",", ndmin=2) if voted.exists() else None,
        )

    @property
    def classes(self) -> list[str]:
        return self.info["classes"]

    def image(self, row: int) -> np.ndarray:
        """uint8 (H, W, C)"""
        start = self.offsets[row]
        return self.pixels[start : start + self.shapes[row].prod()].reshape(self.shapes[row])


def assign(raw: Raw, val_fraction: float, test_fraction: float, seed: int) -> dict[str, np.ndarray]:
    """Rows of data/raw per split, ascending. Raises StageError if a class is too small to be split."""
    rows = {split: np.flatnonzero(raw.splits == split) for split in ("train", "val", "test")}
    rows["train"] = np.flatnonzero((raw.splits == "train") | (raw.splits == ""))
    for split, fraction in (("test", test_fraction), ("val", val_fraction)):
        if not len(rows[split]):
            rows["train"], rows[split] = draw(rows["train"], raw.labels, raw.classes, split, fraction, seed)
    return rows


def cross_validated(raw: Raw, folds: int, by: str, val_fraction: float, seed: int) -> list[dict[str, np.ndarray]]:
    """`assign` for each fold: every image is a test image in one of them; stratified, by images or by whole subjects.

    By subject, nobody is in two of a fold's three parts. Raises StageError where there is an official test split, no
    subjects are known, or too few images or subjects for so many folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    if (raw.splits == "test").any():
        raise StageError("params.yaml: split.folds: this data set has an official test split; choose 0")
    labels = raw.labels
    if by == "image":
        fewest = np.bincount(labels, minlength=len(raw.classes)).min()
        if fewest < folds:
            raise StageError(f"params.yaml: split.folds: {folds} folds, but a class has {fewest} images; choose fewer")
        splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
        assigned = []
        for rest, test in splitter.split(labels, labels):
            train, val = draw(rest, labels, raw.classes, "val", val_fraction, seed)
            assigned.append({"train": train, "val": val, "test": test})
        return assigned
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
        found = splitter.split(rows, labels[rows], raw.subjects[rows])
        return [(rows[kept], rows[taken]) for kept, taken in found]

    assigned = []
    for rest, test in parted(np.arange(len(labels)), folds):
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
        for split in splits:
            for place, row in enumerate(rows[split]):
                line = [split, place, raw.names[row], raw.classes[raw.labels[row]]]
                manifest.writerow(line[skipped:])


def statistics(images: np.ndarray) -> dict[str, Any]:
    """Mean, deviation and covariance (C, C), as fractions of 255, of the channels of images (N, S, S, C) uint8.

    Exact: from sums of whole numbers.
    """
    channels = images.shape[-1]
    total, products, count = np.zeros(channels, dtype=np.int64), np.zeros((channels, channels), dtype=np.int64), 0
    for start in range(0, len(images), 64):
        part = np.ascontiguousarray(images[start : start + 64].reshape(-1, channels).T).astype(np.float64)  # (C, M)
        total += part.sum(1).astype(np.int64)  # of whole numbers below 2**53
        products += (part @ part.T).astype(np.int64)
        count += part.shape[1]
    mean = total / count
    covariance = (products / count - np.outer(mean, mean)) / 255**2
    return {
        "mean": (mean / 255).round(6).tolist(),
        "std": np.sqrt(covariance.diagonal().clip(0)).round(6).tolist(),
        "covariance": covariance.round(8).tolist(),
    }


def fit_info(
    raw: Raw,
    minority: list[str],
    per_class: dict[str, dict[str, int]],
    digest: str,
    pixels: dict[str, Any],
    seed: int,
) -> dict[str, Any]:
    """data/fit/info.json; the variant is that of the training and validation images alone."""
    return {
        "dataset": raw.info["dataset"],
        "title": raw.info["title"],
        "variant": raw.info["fit_variant"],
        "classes": raw.classes,
        "flip": raw.info["flip"],
        "shareable": raw.info["shareable"],
        "minority": minority,
        "train": per_class["train"],
        "val": per_class["val"],
        "digest": digest,
        "pixels": pixels,
        "seed": seed,
    }


TOLD = (
    "dataset",
    "title",
    "variant",
    "flip",
    "shareable",
    "licence",
    "homepage",
    "published",
    "caveats",
    "expressions",
)


def summary(
    raw: Raw,
    imbalance: float,
    minority: list[str],
    found: dict[str, np.ndarray],
    per_class: dict[str, dict[str, int]],
    digests: dict[str, str],
) -> dict[str, Any]:
    """reports/data.json; `found` counts images before thinning, `classes` after."""
    return {
        "study": study(),
        **{key: raw.info[key] for key in TOLD},
        "found": {split: len(rows) for split, rows in found.items()},
        "imbalance": imbalance,
        "minority": minority,
        "digests": digests,
        "classes": [{"class": name, **{split: n[name] for split, n in per_class.items()}} for name in raw.classes],
    }


def log(raw: Raw, source: str, counts: dict[str, np.ndarray], minority: list[str], digests: dict[str, str]) -> None:
    from pipeline import tracking

    with tracking.data_run("split") as tracked:
        tracked.params({"minority": ", ".join(minority)})
        for split, numbers in counts.items():
            per_class = {f"{split}_images/{name}": int(n) for name, n in zip(raw.classes, numbers, strict=True)}
            tracked.metrics({f"{split}_images": int(numbers.sum()), **per_class})
        for name, digest in digests.items():
            tracked.dataset(raw.info["title"], digest, source or "official source", name)
        tracked.artifact(REPORT)


if __name__ == "__main__":
    run(main)
