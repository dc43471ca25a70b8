"""A trained model as MLflow serves it: images in, class names and probabilities out."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from pipeline import inference, loader


def _load_pyfunc(path: str) -> "Classifier":
    """MLflow's entry point: `path` is the folder that train left."""
    return Classifier(Path(path))


class Classifier:
    def __init__(self, folder: Path) -> None:
        self.network, self.config = inference.load(folder)
        self.network.eval()

    @torch.inference_mode()
    def predict(self, images: np.ndarray, params: dict[str, Any] | None = None) -> pd.DataFrame:  # noqa: ARG002
        """images (N, H, W, C) uint8, C 1 or 3 -> one row per image: `class`, then a probability per class."""
        pixels = torch.from_numpy(np.ascontiguousarray(images, dtype=np.uint8))
        logits = inference.score(self.network, loader.views(pixels, inference.image_format(self.config)))
        probabilities = logits.double().softmax(1).numpy()
        classes = self.config["classes"]
        table = pd.DataFrame(probabilities, columns=[f"p({name})" for name in classes])
        table.insert(0, "class", np.array(classes, dtype=object)[probabilities.argmax(1)])
        return table
