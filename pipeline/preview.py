"""Draw training images as the networks see them: each as it is and augmented, with its class's pipeline."""

from pathlib import Path

import numpy as np
import torch

from pipeline import loader, params, tracking
from pipeline.stage import run, whole

FIT = Path("data/fit")
CLASSES, VARIANTS = 10, 6  # at most so many rows, so many augmentations of each


def main() -> None:
    study = params.load()
    info = loader.read_info(FIT)
    recipe = loader.recipe(
        study.dataset.image_size,
        info["classes"],
        info["minority"],
        study.augment.model_dump(),
        info["flip"],
        torch.device("cpu"),
    )
    images = loader.read(FIT, "train_")
    path = Path("reports/augmentation.png")
    with whole(path) as partial:
        draw(images, info, recipe, partial)
    with tracking.data_run("preview") as tracked:
        tracked.artifact(path)
    print(f"preview: {path}")


def draw(images: loader.Images, info: dict, recipe: loader.Recipe, path: Path) -> None:
    """One row per class: its first training image, then augmented copies of it."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    shown = np.unique(np.linspace(0, len(info["classes"]) - 1, CLASSES).round().astype(int))
    figure, axes = plt.subplots(
        len(shown), VARIANTS + 1, figsize=(0.9 * (VARIANTS + 1) + 1.6, 0.9 * len(shown)), squeeze=False
    )
    for row, label in zip(axes, shown, strict=True):
        index = int(torch.nonzero(images.labels == label)[0])
        pixels = images.pixels[index : index + 1]
        draws = loader.draw(VARIANTS, seed=int(label), epoch=0)
        strong = recipe.strong[label].expand(VARIANTS)
        augmented = loader.augment(pixels.expand(VARIANTS, -1, -1, -1), draws, strong, recipe)
        for axis, image in zip(row, [loader.prepare(pixels, recipe.size)[0], *augmented], strict=True):
            axis.imshow(displayable(image), interpolation="nearest")
            axis.set(xticks=[], yticks=[])
            for spine in axis.spines.values():
                spine.set_visible(False)
        pipeline = "strong" if recipe.strong[label] else "light"
        row[0].set_ylabel(f"{info['classes'][label]}\n{pipeline}", rotation=0, ha="right", va="center", fontsize=9)
    axes[0][0].set_title("as it is", fontsize=9)
    axes[0][(VARIANTS + 1) // 2].set_title("augmented", fontsize=9)
    figure.subplots_adjust(
        left=1.5 / figure.get_figwidth(), right=0.99, top=0.95, bottom=0.01, wspace=0.06, hspace=0.06
    )
    figure.savefig(path, dpi=150, format="png", metadata={"Software": None})
    plt.close(figure)


def displayable(image: torch.Tensor) -> np.ndarray:
    """(3, H, W) normalised -> (H, W, 3) uint8."""
    mean = torch.tensor(loader.IMAGENET_MEAN)[:, None, None]
    std = torch.tensor(loader.IMAGENET_STD)[:, None, None]
    return ((image * std + mean).clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()


if __name__ == "__main__":
    run(main)
