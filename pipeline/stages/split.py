"""split: stratified training, validation and test images, thinned and packed.

Reads data/raw. Leaves `data/fit/` (training and validation), apart from it `data/test/`, and `reports/data.json`.
Either holds a folder for each replicate, so that one more replicate changes nothing for the others; replicates of the
same images share their files. Nothing in data/fit depends on what a test image looks like. Official splits are kept;
where there is none, test images are drawn first, then validation images, each stratified and from the split's own seed.
With `split.folds`, replicate r has the images of fold r; with `split.vary` it has a split of its own, or shares one of
`split.draws`: validation images, or test images too, are drawn anew from another seed, and training images thinned so.

Legend: N images, S side, C channels (1 grey, 3 RGB), K classes.
"""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.base.errors import StageError, shown
from pipeline.base.files import linked, write_json, written_whole
from pipeline.base.lines import folded
from pipeline.base.places import FIT, RAW, REPORT, TEST, replicate_folder
from pipeline.base.process import run
from pipeline.datasets.pack import pack, statistics
from pipeline.datasets.partition import assign, cross_validated, minority_classes, settle_duplicates, thin
from pipeline.datasets.raw import Raw
from pipeline.images.subset import subset
from pipeline.params.read import load_params
from pipeline.params.settings import Split
from pipeline.params.study import Params
from pipeline.records.attributes import of_columns


@dataclass(frozen=True)
class Division:
    """Rows of data/raw by split: as they were assigned, and as they are kept."""

    assigned: dict[str, np.ndarray]
    kept: dict[str, np.ndarray]  # without duplicates, training images thinned
    dropped: int  # duplicates
    unthinned: int  # training images before
    seed: int  # of what was drawn


def main() -> None:
    config = load_params()
    raw = Raw.open(RAW)
    numbers = division_of(config)
    divisions = {
        number: divide(raw, config, rows, seed_of(config.split, number))
        for number, rows in assigned(raw, config, numbers).items()
    }
    with written_whole(FIT) as fit, written_whole(TEST) as test, written_whole(REPORT) as report:
        summaries = leave_all(raw, config, numbers, divisions, (fit, test))
        content = together(config, numbers, divisions, summaries) | described(raw, config.split, divisions)
        write_json(report, content)
    counts = counted(raw, next(iter(divisions.values())))
    log(raw, config.dataset.source, counts, content["minority"], content["digests"])
    print(folded(in_words(config.split, list(divisions.values()), content["minority"])))


def division_of(config: Params) -> dict[int, int]:
    """The number of each replicate's division of the images; equal numbers mean the same images."""
    rule = config.split
    if rule.folds or (rule.vary != "none" and not rule.draws):
        return {replicate: replicate for replicate in config.replicates}
    return {replicate: replicate % (rule.draws or 1) for replicate in config.replicates}


def seed_of(rule: Split, number: int) -> int:
    """The seed of a division: the split's own where one is drawn, else one from it and the division's number."""
    if rule.vary == "none":
        return rule.seed
    return int(np.random.SeedSequence([rule.seed, number]).generate_state(1)[0])


def assigned(raw: Raw, config: Params, numbers: Mapping[int, int]) -> dict[int, dict[str, np.ndarray]]:
    """The rows of each division's splits, by its number.

    Raises StageError where test images are to vary that are officially such.
    """
    rule = config.split
    if rule.folds:
        folds = cross_validated(raw, rule.folds, rule.folds_by, rule.val_fraction, rule.seed)
        return {number: folds[number] for number in numbers.values()}
    if rule.vary == "split" and (raw.splits == "test").any():
        raise StageError(
            "params.yaml: split.vary: split draws test images anew, but this data set has an official test split, which"
            " stays; choose validation"
        )
    found = {}
    for number in dict.fromkeys(numbers.values()):
        anew = seed_of(rule, number)
        of_test, of_val = anew if rule.vary == "split" else rule.seed, anew if rule.vary != "none" else None
        found[number] = assign(raw, rule.val_fraction, rule.test_fraction, of_test, of_val)
    return found


def divide(raw: Raw, config: Params, rows: dict[str, np.ndarray], seed: int) -> Division:
    unique, dropped = settle_duplicates(raw, rows, config.split.duplicates)
    thinned = thin(unique["train"], raw.labels, config.dataset.imbalance, seed)
    places = subset(raw.labels[thinned], config.dataset.train_fraction, seed)
    return Division(rows, {**unique, "train": thinned[places]}, dropped, len(unique["train"]), seed)


def counted(raw: Raw, found: Division) -> dict[str, np.ndarray]:
    """Images of each class, (K,), by split."""
    return {split: np.bincount(raw.labels[rows], minlength=len(raw.classes)) for split, rows in found.kept.items()}


def together(
    config: Params,
    numbers: Mapping[int, int],
    divisions: Mapping[int, Division],
    summaries: Mapping[int, dict[str, Any]],
) -> dict[str, Any]:
    """reports/data.json: the first replicate's summary, which the report counts, with what is of all of them."""
    content = {**next(iter(summaries.values())), "train_fraction": config.dataset.train_fraction}
    if config.split.folds:
        content["cross_validation"] = {"folds": config.split.folds, "by": config.split.folds_by}
    if config.split.folds or config.split.vary != "none":
        joined = {name: "".join(each["digests"][name] for each in summaries.values()) for name in ("fit", "test")}
        content["digests"] = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in joined.items()}
        content["vary"] = config.split.vary
        content["replicates"] = [
            {"replicate": replicate, "split": number, "digests": summaries[number]["digests"]}
            | {split: len(rows) for split, rows in divisions[number].kept.items()}
            for replicate, number in numbers.items()
        ]
    dropped = sum(each.dropped for each in divisions.values())
    return {**content, "duplicates": {"rule": config.split.duplicates, "dropped": dropped}}


def described(raw: Raw, rule: Split, divisions: Mapping[int, Division]) -> dict[str, Any]:
    """What is known of the test images, for reports/data.json; nothing where replicates have such of their own."""
    if rule.folds or rule.vary == "split":
        return {}
    rows = next(iter(divisions.values())).kept["test"].tolist()
    columns = {name: [values[row] for row in rows] for name, values in raw.attributes.items()}
    known = [dataclasses.asdict(each) for each in of_columns(columns)]
    return {"attributes": known} if known else {}


def in_words(rule: Split, divisions: Sequence[Division], minority: Sequence[str]) -> str:
    first, dropped = divisions[0], sum(each.dropped for each in divisions)
    sizes = ", ".join(f"{len(first.kept[split]):,} {split}" for split in ("train", "val", "test"))
    thinned = f" (thinned from {first.unthinned:,})" if len(first.kept["train"]) < first.unthinned else ""
    gone = f", {dropped:,} dropped that test or validation images equal" if dropped else ""
    which = f" in the first of {rule.folds} folds by {rule.folds_by}" if rule.folds else ""
    if rule.vary != "none":
        which = f" in the first of {len(divisions)} splits"
    names = ", ".join(map(shown, minority)) or "none"
    return f"split: {sizes} images{which}{thinned}{gone}; minority classes: {names}"


def leave_all(
    raw: Raw, config: Params, numbers: Mapping[int, int], divisions: Mapping[int, Division], places: tuple[Path, Path]
) -> dict[int, dict[str, Any]]:
    """Write every replicate's images into its folders in the two `places`, of equal ones links.

    Returns what the report says of each division.
    """
    summaries, first = dict[int, dict[str, Any]](), dict[int, int]()  # the first replicate of each division
    for replicate, number in numbers.items():
        fit, test = (replicate_folder(place, replicate) for place in places)
        if number in first:
            for place, folder in zip(places, (fit, test), strict=True):
                linked(replicate_folder(place, first[number]), folder)
            continue
        first[number] = replicate
        summaries[number] = leave(raw, config, divisions[number], fit, test)
    return summaries


def leave(raw: Raw, config: Params, found: Division, fit: Path, test: Path) -> dict[str, Any]:
    """Write one split into the folders `fit` and `test`; returns what the report says of it."""
    counts = counted(raw, found)
    minority = minority_classes(raw.classes, counts["train"])
    digests = pack(raw, found.kept, config.dataset.image_size, config.dataset.resize, fit, test)
    per_class = {split: {c: int(n) for c, n in zip(raw.classes, counts[split], strict=True)} for split in counts}
    pixels = statistics(np.load(fit / "train_images.npy", mmap_mode="r"))
    form = {"resize": config.dataset.resize}  # how other images are brought into the form of these
    write_json(fit / "info.json", fit_info(raw, minority, per_class, digests["fit"], pixels, found.seed) | form)
    about = {"classes": list(raw.classes), "digest": digests["test"], "shareable": raw.info["shareable"]}
    write_json(test / "info.json", about | form)
    return summary(raw, config.dataset.imbalance, minority, found.assigned, per_class, digests)


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
    """reports/data.json; `found` counts images before thinning, `classes` after.

    It does not name the study: another one of the same images takes it from DVC's cache.
    """
    return {
        **{key: raw.info[key] for key in TOLD},
        "found": {split: len(rows) for split, rows in found.items()},
        "imbalance": imbalance,
        "minority": minority,
        "digests": digests,
        "classes": [{"class": name, **{split: n[name] for split, n in per_class.items()}} for name in raw.classes],
    }


def log(raw: Raw, source: str, counts: dict[str, np.ndarray], minority: list[str], digests: dict[str, str]) -> None:
    from pipeline.tracking import runs

    with runs.data_run("split") as tracked:
        tracked.params({"minority": ", ".join(minority)})
        for split, numbers in counts.items():
            per_class = {f"{split}_images/{name}": int(n) for name, n in zip(raw.classes, numbers, strict=True)}
            tracked.metrics({f"{split}_images": int(numbers.sum()), **per_class})
        for name, digest in digests.items():
            tracked.dataset(raw.info["title"], digest, source or "official source", name)
        tracked.artifact(REPORT)


if __name__ == "__main__":
    run(main)
