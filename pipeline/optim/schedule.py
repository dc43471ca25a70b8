"""Learning rate by epoch: linear warm-up, then constant or cosine (Loshchilov and Hutter 2017, arXiv:1608.03983)."""

import math


def learning_rate(epoch: int, *, epochs: int, lr: float, schedule: str, warmup_epochs: int = 0) -> float:
    """The rate of epoch 0, 1, ..., epochs - 1: a function of the epoch alone, so that it needs no state to resume."""
    if epoch < warmup_epochs:
        return lr * (epoch + 1) / (warmup_epochs + 1)
    if schedule == "constant":
        return lr
    return lr * 0.5 * (1 + math.cos(math.pi * (epoch - warmup_epochs) / (epochs - warmup_epochs)))
