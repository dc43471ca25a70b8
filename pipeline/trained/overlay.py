"""What an answer rests on, drawn over its image."""

import itertools
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch import Tensor, nn

from pipeline.base.errors import StageError
from pipeline.base.files import written_whole
from pipeline.images import form, packed
from pipeline.inference import loading
from pipeline.inference.device import memory_remedy

TILE = 96  # pixels a side
HOT, STRENGTH = (255, 96, 0), 0.72  # what speaks for a class is tinted so, at most so strongly

Labels = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]


# tiles


def picture(images: packed.Images, row: int, side: int = TILE) -> Bytes:
    """An image as split packed it -> (side, side, 3)."""
    pixels = images.pixels[row].numpy()
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).convert("RGB")
    return np.asarray(image.resize((side, side), Image.Resampling.BICUBIC))


def overlay(saliency_map: Floats, image: Bytes | None, side: int = TILE) -> Bytes:
    """A map (S, S), from lowest to highest, as colour over the image in grey, or over grey -> (side, side, 3)."""
    low, high = saliency_map.min(), saliency_map.max()  # a rollout gives every place something
    stretched = (saliency_map - low) / (high - low) if high > low else np.zeros_like(saliency_map)
    heat = Image.fromarray(stretched.astype(np.float32)).resize((side, side), Image.Resampling.BILINEAR)
    share = STRENGTH * np.asarray(heat)[..., None].clip(0, 1)  # (side, side, 1)
    grey = np.full((side, side, 1), 70.0) if image is None else image @ np.array([[0.299], [0.587], [0.114]])
    return ((1 - share) * grey + share * np.array(HOT)).round().astype(np.uint8)


class Sheet:
    """Tiles of one picture, row after row."""

    columns = 16

    def __init__(self) -> None:
        self.tiles: list[Bytes] = []

    def add(self, tile: Bytes) -> list[int]:
        """The tile's column and row."""
        self.tiles.append(tile)
        row, column = divmod(len(self.tiles) - 1, self.columns)
        return [column, row]

    @property
    def rows(self) -> int:
        return max(1, -(-len(self.tiles) // self.columns))

    def image(self) -> Image.Image:
        sheet = np.full((self.rows * TILE, self.columns * TILE, 3), 255, dtype=np.uint8)
        for index, tile in enumerate(self.tiles):
            row, column = divmod(index, self.columns)
            sheet[row * TILE : (row + 1) * TILE, column * TILE : (column + 1) * TILE] = tile
        return Image.fromarray(sheet)


def overlays(
    network: nn.Module, config: dict[str, Any], paths: list[str], pixels: Tensor, classes: Tensor, folder: Path
) -> None:
    """Write a PNG for each image (S, S, C): in grey, coloured by what speaks for its class, as the report does it."""
    try:
        pictures, method = explained(network, config, pixels, classes)
    except ValueError as error:
        raise StageError(f"--explain: {config['model']}: {error}") from None
    for path, content in zip(paths, pictures, strict=True):
        with written_whole(unused_name(folder / f"{Path(path).stem}.png")) as partial:
            Image.fromarray(content).save(partial, "PNG")
    print(f"{folder}: what each answer rests on, by {method}", file=sys.stderr)


def explained(network: nn.Module, config: dict[str, Any], pixels: Tensor, classes: Tensor) -> tuple[list[Bytes], str]:
    """What speaks for a class of each image (S, S, C), as colour over it in grey, and by which method it was found.

    Raises ValueError for a network that neither attends nor has a feature map.
    """
    from pipeline.trained import saliency  # late: figures are not for every answer

    device = next(network.parameters()).device
    prepared = form.prepare(pixels, loading.image_format(config)).to(device)
    with memory_remedy("free memory on the device"):
        found = saliency.explain(network, prepared, classes.to(device))
    images, side = packed.Images(pixels, classes), max(224, pixels.shape[1])
    maps = found.maps.double().cpu().numpy()
    return [overlay(heat, picture(images, row, side), side) for row, heat in enumerate(maps)], found.method


def unused_name(path: Path) -> Path:
    """The path, or one with a number where it is taken: images of two folders may have one name."""
    numbered = (path.with_stem(f"{path.stem}-{number}") for number in itertools.count(2))
    return next(each for each in itertools.chain([path], numbered) if not each.exists())
