"""Draw training images as the networks see them: each as it is and augmented, with its class's pipeline.

A test card stands in for images that may not be passed on: the picture goes to git, into the report and to MLflow.
"""

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline import figures, loader, params, tracking
from pipeline.stage import packed, run, whole

FIT = Path("data/fit")
PICTURES = (Path("reports/augmentation.png"), Path("reports/augmentation.svg"))
CLASSES, VARIANTS = 10, 6  # at most so many rows, so many augmentations of each


def main() -> None:
    study = params.load()
    folder = packed(FIT)
    info = loader.read_info(folder)
    augment = study.augment.model_dump()
    whole_side, crop = loader.sides(study.dataset.image_size, augment)
    recipe = loader.recipe(
        loader.format_for(whole_side, study.dataset.normalise, info["pixels"], channels=3, crop=crop),
        info["classes"],
        info["minority"],
        augment,
        info["flip"],
        torch.device("cpu"),
        info["pixels"]["covariance"],
    )
    shareable = info.get("shareable", False)
    rows = examples(loader.read(folder, "train_"), info, recipe, shareable)
    figure = figures.augmentation(rows, "as it is" if shareable else "test card")
    with tempfile.TemporaryDirectory() as drawn, whole(PICTURES[0]) as png, whole(PICTURES[1]) as svg:
        figures.save(figure, Path(drawn), "augmentation")
        shutil.copy(Path(drawn) / "augmentation.png", png)
        shutil.copy(Path(drawn) / "augmentation.svg", svg)
    with tracking.data_run("preview") as tracked:
        for picture in PICTURES:
            tracked.artifact(picture)
    print(f"preview: {PICTURES[0]}")


def examples(
    images: loader.Images, info: dict[str, Any], recipe: loader.Recipe, shareable: bool
) -> dict[str, np.ndarray]:
    """Of each class, its first training image and augmented copies of it: row's name -> (VARIANTS + 1, S, S, 3)."""
    rows = {}
    for label in np.unique(np.linspace(0, len(info["classes"]) - 1, CLASSES).round().astype(int)):
        index = int(torch.nonzero(images.labels == label)[0])
        pixels = images.pixels[index : index + 1] if shareable else card(images.pixels.shape[1:], int(label))
        augmented = loader.augment(
            pixels.expand(VARIANTS, -1, -1, -1),
            loader.draw(VARIANTS, seed=int(label), epoch=0, wanted=recipe.draws),
            recipe.strong[label].expand(VARIANTS),
            recipe,
        )
        name = f"{info['classes'][label]}\n{'strong' if recipe.strong[label] else 'light'}"
        rows[name] = displayable(torch.cat([loader.prepare(pixels, recipe.format), augmented]), recipe.format)
    return rows


def card(shape: torch.Size, label: int) -> torch.Tensor:
    """A drawing (1, H, W, C) uint8 of rings and a gradient, on which crop, turn, flip and colour can be seen."""
    y, x = (axis / shape[0] - 0.5 for axis in np.mgrid[: shape[0], : shape[1]])
    rings = np.cos(2 * np.pi * (2 + label % 4) * np.hypot(x + 0.1, y))
    channels = [128 + 70 * rings + 100 * (x * (shape[2] - 1 - c) + y * c) / shape[2] for c in range(shape[2])]
    return torch.from_numpy(np.stack(channels, axis=-1).clip(0, 255).astype(np.uint8))[None]


def displayable(images: torch.Tensor, form: loader.Format) -> np.ndarray:
    """(N, 3, H, W) normalised -> (N, H, W, 3) uint8."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (form.mean, form.std))
    return ((images * std + mean).clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


if __name__ == "__main__":
    run(main)
