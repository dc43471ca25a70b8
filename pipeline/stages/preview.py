"""Draw training images as the networks see them: each as it is and augmented, with its class's pipeline.

A test card stands in for images that may not be passed on: the picture goes to git, into the report and to MLflow.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.figure import Figure

from pipeline.base.files import written_whole
from pipeline.base.places import FIT, replicate_folder
from pipeline.base.process import run
from pipeline.images import packed, transform
from pipeline.images.form import Format, format_for, prepare, sides
from pipeline.images.recipe import Recipe
from pipeline.images.recipe import recipe as recipe_recipe
from pipeline.params.read import load_params
from pipeline.report.drawing import style
from pipeline.tracking import runs


@style({"axes.grid": False, "axes.linewidth": 0})
def augmentation_figure(rows: Mapping[str, npt.NDArray[np.uint8]], first: str = "as it is") -> Figure:
    """Images (V, H, W, 3) of one row each, named at its left: what `first` says, then augmented ones."""
    columns = max(len(images) for images in rows.values())
    figure = Figure(figsize=(0.9 * columns + 1.6, 0.93 * len(rows) + 0.3), layout="constrained")
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for row, (name, images) in zip(axes, rows.items(), strict=True):
        for axis, image in zip(row, images, strict=True):
            axis.imshow(image, interpolation="nearest")
            axis.set(xticks=[], yticks=[])
        row[0].set_ylabel(name, rotation=0, ha="right", va="center", size=9.5)
    axes[0][0].set_title(first, size=9.5)
    axes[0][1].set_title("augmented", size=9.5)
    return figure


PICTURE = Path("reports/augmentation.png")
CLASSES, VARIANTS = 10, 6  # at most so many rows, so many augmentations of each


def main() -> None:
    study = load_params()
    folder = replicate_folder(FIT, study.replicates[0])
    info = packed.read_info(folder)
    augment = study.augment.model_dump()
    whole_side, crop = sides(study.dataset.image_size, augment)
    recipe = recipe_recipe(
        format_for(whole_side, study.dataset.normalise, info["pixels"], channels=3, crop=crop),
        info["classes"],
        info["minority"],
        augment,
        info["flip"],
        torch.device("cpu"),
        info["pixels"]["covariance"],
    )
    shareable = info.get("shareable", False)
    rows = examples(packed.read(folder, "train_"), info, recipe, shareable)
    figure = augmentation_figure(rows, "as it is" if shareable else "test card")
    with written_whole(PICTURE) as partial, style():
        figure.savefig(partial, format="png", dpi=150, metadata={"Software": None}, bbox_inches="tight")
    with runs.data_run("preview") as tracked:
        tracked.artifact(PICTURE)
    print(f"preview: {PICTURE}")


def examples(images: packed.Images, info: dict[str, Any], recipe: Recipe, shareable: bool) -> dict[str, np.ndarray]:
    """Of each class, its first training image and augmented copies of it: row's name -> (VARIANTS + 1, S, S, 3)."""
    rows = {}
    for label in np.unique(np.linspace(0, len(info["classes"]) - 1, CLASSES).round().astype(int)):
        index = int(torch.nonzero(images.labels == label)[0])
        pixels = images.pixels[index : index + 1] if shareable else card(images.pixels.shape[1:], int(label))
        augmented = transform.augment(
            pixels.expand(VARIANTS, -1, -1, -1),
            transform.draw(VARIANTS, seed=int(label), epoch=0, wanted=recipe.draws),
            recipe.strong[label].expand(VARIANTS),
            recipe,
        )
        name = f"{info['classes'][label]}\n{'strong' if recipe.strong[label] else 'light'}"
        rows[name] = displayable(torch.cat([prepare(pixels, recipe.format), augmented]), recipe.format)
    return rows


def card(shape: torch.Size, label: int) -> torch.Tensor:
    """A drawing (1, H, W, C) uint8 of rings and a gradient, on which crop, turn, flip and colour can be seen."""
    y, x = (axis / shape[0] - 0.5 for axis in np.mgrid[: shape[0], : shape[1]])
    rings = np.cos(2 * np.pi * (2 + label % 4) * np.hypot(x + 0.1, y))
    channels = [128 + 70 * rings + 100 * (x * (shape[2] - 1 - c) + y * c) / shape[2] for c in range(shape[2])]
    return torch.from_numpy(np.stack(channels, axis=-1).clip(0, 255).astype(np.uint8))[None]


def displayable(images: torch.Tensor, form: Format) -> np.ndarray:
    """(N, 3, H, W) normalised -> (N, H, W, 3) uint8."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (form.mean, form.std))
    return ((images * std + mean).clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


if __name__ == "__main__":
    run(main)
