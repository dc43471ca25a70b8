"""What each process of tests/training/test_distributed.py does: `python -m tests.ranks FOLDER`, as one of a group."""

import sys
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from pipeline.training import distributed
from tests.training import test_fit as test_engine

SGD: dict[str, Any] = {"optimizer": "sgd", "lr": 0.05, "epochs": 2, "batch_size": 14}  # 60 images: the last batch has 4
TRAININGS: dict[str, dict[str, Any]] = {
    "plain": {**SGD, "network": "linear"},
    "uneven": {**SGD, "network": "linear", "batch_size": 19},  # shares of 9 and 10; a last batch of 3
    "left out": {**SGD, "network": "linear", "batch_size": 59},  # a last batch of one
    "adamw": {"network": "linear", "epochs": 2},
    "normalised": SGD,
    "sam": {**SGD, "sam": 0.05},
    "mixed": {**SGD, "mixup": 0.4, "cutout": 4},
    "weighted": {**SGD, "class_weights": "inverse", "loss": "focal", "sampler": "weighted", "label_smoothing": 0.1},
    "averaged": {**SGD, "select": "average", "average_start": 0.5},
}


def train(name: str) -> dict[str, Any]:
    changes = dict(TRAININGS[name])
    network = test_engine.linear() if changes.pop("network", "") == "linear" else test_engine.tiny(dropout=0.0)
    fit = test_engine.fit(network, train=test_engine.images((20, 25, 15)), **changes)
    return {"weights": fit.weights, "history": [list(vars(epoch).values()) for epoch in fit.history]}


def normalise(rows: slice) -> dict[str, torch.Tensor]:
    """BatchNorm of this process's rows of a batch of 10, in training, and the gradients behind it."""
    images = torch.randn(10, 3, 5, 4, generator=torch.Generator().manual_seed(0))[rows].requires_grad_()
    goal = torch.randn(10, 3, 5, 4, generator=torch.Generator().manual_seed(1))[rows]
    layer = nn.BatchNorm2d(3)
    nn.init.uniform_(layer.weight, 0.5, 1.5, generator=torch.Generator().manual_seed(2))
    found = layer(images)
    F.mse_loss(found, goal, reduction="sum").backward()
    assert images.grad is not None
    return {"found": found.detach(), "gradient": images.grad, "mean": layer.running_mean, "var": layer.running_var}  # type: ignore[dict-item]


def main() -> None:
    folder = Path(sys.argv[1])
    assert distributed.from_first(distributed.rank()) == 0
    result = {"normalise": normalise(distributed.own(10)), **{name: train(name) for name in TRAININGS}}
    torch.save(result, folder / f"{distributed.rank()}.pt")


if __name__ == "__main__":
    distributed.run(main)
