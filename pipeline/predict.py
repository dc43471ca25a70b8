"""Class and probability for images: `versus predict IMAGE...`, or `python -m pipeline.predict IMAGE...`.

An image goes the way of a test image: decoded as fetch does, resized as split does, prepared and scored as evaluate
does. So an image of the data set gets the logits that evaluate gave it.
"""

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
from PIL import Image
from torch import Tensor, nn

from pipeline import cli, inference, loader, params, trained
from pipeline.datasets.decode import decode
from pipeline.datasets.layouts import is_image, say_what_is_passed_over
from pipeline.datasets.tree import FolderTree, reason, regular
from pipeline.picture import MOST_BYTES, SUFFIXES
from pipeline.resize import fitted
from pipeline.split import FIT
from pipeline.stage import StageError, legible, shown, study, whole, writable
from pipeline.stage import packed as place


@dataclass(frozen=True)
class Packed:
    """The form that split brings images into."""

    side: int
    channels: int
    resize: str


def predict(
    sources: Iterable[str], model: str = "", top: int = 3, as_json: bool = False, explain: Path | None = None
) -> bool:
    """Print an answer for every image; what has none gets a line on stderr, and False is returned.

    With `explain` that folder gets a picture of each image with what the answer rests on.
    """
    entry, why = trained.choose(model)
    if explain is not None:
        writable(explain, "--explain")
    network, config = trained.load(entry)
    form = packed(config, entry.name)
    if not as_json:
        print(why, file=sys.stderr)
    faults: list[dict[str, str]] = []
    answers = []
    images = readable(sources, form, faults)
    for paths, pixels, logits in scored(network, config, images):
        if explain is not None:
            overlays(network, config, paths, pixels, logits.argmax(1), explain)
        for path, answer in zip(paths, ranked(logits, config["classes"], top), strict=True):
            answers.append({"image": path, **answer[0], "top": answer})
            if not as_json:
                text = ", ".join(f"{choice['class']} {choice['probability']:.1%}" for choice in answer)
                print(shown(f"{path}: {text}", sys.maxsize), flush=True)
    if as_json:
        chosen = {"study": study(), "model": entry.name, "val_macro_f1": entry.val_macro_f1, "chosen": why}
        print(json.dumps({**chosen, "images": answers, "errors": faults}, indent=2))
    return not faults


def packed(config: dict[str, Any], name: str) -> Packed:
    """How split packed the images that a network was trained on; data/fit has to be that of the training."""
    try:
        fit = place(FIT, config["replicate"])
        digest = json.loads((fit / "info.json").read_text(encoding="utf-8"))["digest"]
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
    return Packed(side, channels, params.load().dataset.resize)


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
    """The files that a file's name, a folder or a glob means, in order; of a folder, those named as images."""
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
    found = [path for match in matches for path in (images(match) if match.is_dir() else [match])]
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
    device = inference.pick_device("cpu" if config["train"]["device"] == "cpu" else "auto")
    network, form = network.to(device), inference.image_format(config)
    remaining = iter(images)
    while batch := list(itertools.islice(remaining, size)):
        pixels = torch.from_numpy(np.stack([image for _, image in batch]))
        unknown = torch.zeros(len(batch), dtype=torch.int64)
        with inference.memory_remedy("free memory on the device"):
            yield (
                [name for name, _ in batch],
                pixels,
                inference.predict(network, loader.Images(pixels, unknown), form, device, size),
            )


def overlays(
    network: nn.Module, config: dict[str, Any], paths: list[str], pixels: Tensor, classes: Tensor, folder: Path
) -> None:
    """Write a PNG for each image (S, S, C): in grey, coloured by what speaks for its class, as the report does it."""
    from pipeline import explain, saliency  # late: figures are not for every answer

    device = next(network.parameters()).device
    prepared = loader.prepare(pixels, inference.image_format(config)).to(device)
    with inference.memory_remedy("free memory on the device"):
        try:
            found = saliency.explain(network, prepared, classes.to(device))
        except ValueError as error:
            raise StageError(f"--explain: {config['model']}: {error}") from None
    images, side = loader.Images(pixels, classes), max(224, pixels.shape[1])
    for row, (path, heat) in enumerate(zip(paths, found.maps.double().cpu().numpy(), strict=True)):
        content = explain.overlay(heat, explain.picture(images, row, side), side)
        with whole(free(folder / f"{Path(path).stem}.png")) as partial:
            Image.fromarray(content).save(partial, "PNG")
    print(f"{folder}: what each answer rests on, by {found.method}", file=sys.stderr)


def free(path: Path) -> Path:
    """The path, or one with a number where it is taken: images of two folders may have one name."""
    numbered = (path.with_stem(f"{path.stem}-{number}") for number in itertools.count(2))
    return next(each for each in itertools.chain([path], numbered) if not each.exists())


def ranked(logits: Tensor, classes: list[str], top: int) -> list[list[dict[str, Any]]]:
    """The `top` likeliest classes of each row of logits (N, K), the likeliest first."""
    probabilities, order = logits.double().softmax(1).sort(dim=1, descending=True, stable=True)
    return [
        [{"class": classes[index], "probability": share} for index, share in zip(places, shares, strict=True)]
        for places, shares in zip(order[:, :top].tolist(), probabilities[:, :top].tolist(), strict=True)
    ]


if __name__ == "__main__":
    cli.main(["predict", *sys.argv[1:]])
