"""A trained model as MLflow loads and serves it: images in, class names and probabilities out.

An image that is not in the form that split packed is brought into it, so that a photo gets the answer of `versus
predict`.
"""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from pipeline.base.errors import StageError, shown
from pipeline.datasets.decode import decode
from pipeline.datasets.resize import fitted
from pipeline.images.packed import Images
from pipeline.inference import forward, loading

COLUMN = "image"  # of a table; its cells hold files


def _load_pyfunc(path: str, model_config: Mapping[str, Any]) -> "Classifier":
    """MLflow's entry point: `path` is the folder that train left, `model_config` the keys of `Classifier`."""
    return Classifier(Path(path), **model_config)


class Classifier:
    """side, channels and resize: the form in which split packed the images of the training."""

    def __init__(self, folder: Path, side: int, channels: int, resize: str) -> None:
        self.network, self.config = loading.load(folder)
        self.side, self.channels, self.resize = side, channels, resize

    def predict(self, images: Any, params: dict[str, Any] | None = None) -> pd.DataFrame:  # noqa: ARG002
        """One row per image: `class`, then a probability per class.

        images: (N, H, W, C) or (N, H, W), values 0 to 255, C 1 or 3; or a sequence of image files (PNG, JPEG, ...),
        each as bytes or base64; or a table with these in a column `image`. N, H and W are any.
        """
        pixels = torch.from_numpy(np.stack([self.packed(image) for image in self.each(images)]))
        unknown = torch.zeros(len(pixels), dtype=torch.int64)
        form = loading.image_format(self.config)
        logits = forward.predict(self.network, Images(pixels, unknown), form, torch.device("cpu"))
        probabilities = logits.double().softmax(1).numpy()
        classes = self.config["classes"]
        table = pd.DataFrame(probabilities, columns=[f"p({name})" for name in classes])
        table.insert(0, "class", np.array(classes, dtype=object)[probabilities.argmax(1)])
        return table

    def each(self, images: Any) -> Sequence[Any]:
        """The images of a request; raises StageError where there are none."""
        if isinstance(images, pd.DataFrame):
            if COLUMN not in images:
                raise StageError(f"a table of images needs a column {COLUMN!r}; found {', '.join(map(str, images))}")
            images = images[COLUMN]
        elif isinstance(images, str | bytes) or (isinstance(images, np.ndarray) and images.ndim == 0):
            images = [images if isinstance(images, str | bytes) else images.item()]
        found = list(images)
        if not found:
            raise StageError("no images: give an array (N, H, W, C), or a list of files as bytes or base64")
        return found

    def packed(self, image: Any) -> np.ndarray:
        """One image, an array or a file, as uint8 (S, S, C)."""
        if isinstance(image, str | bytes):
            pixels = decode(from_base64(image) if isinstance(image, str) else image, "the image")
        else:
            values = array(image)
            whole = values.dtype.kind in "iu" and values.ndim in (2, 3) and values.size
            if not whole or values.min() < 0 or values.max() > 255:
                raise StageError(
                    f"an image is whole numbers from 0 to 255, (H, W, C) or (H, W); got {values.dtype} {values.shape}"
                )
            pixels = values.astype(np.uint8).reshape(*values.shape[:2], -1)
        if pixels.shape[2] not in (1, 3):
            raise StageError(f"an image has 1 or 3 channels, the last axis; got {pixels.shape}")
        return fitted(pixels, self.side, self.channels, self.resize)


def array(image: Any) -> np.ndarray:
    try:
        return np.asarray(image)
    except ValueError:  # rows of different lengths
        raise StageError("an image has rows of one length and pixels of one number of channels") from None


def from_base64(text: str) -> bytes:
    """A file's bytes; what a data URL says before them is left out."""
    try:
        return base64.b64decode(text.partition("base64,")[2] or text, validate=True)
    except ValueError:  # binascii's is one, and so is what is said of letters beyond ASCII
        raise StageError(f"not base64: '{shown(text[:40])}'") from None
