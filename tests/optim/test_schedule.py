"""The learning rate by epoch is torch's, without torch's state."""

import math

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR

from pipeline.optim.schedule import learning_rate


def rates(**settings: object) -> list[float]:
    return [learning_rate(epoch, **settings) for epoch in range(settings["epochs"])]


@pytest.mark.parametrize("epochs", [1, 2, 25, 200])
@pytest.mark.parametrize("lr", [3e-4, 0.1])
def test_cosine_is_torchs_cosine_annealing(epochs: int, lr: float) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    scheduler, wanted = CosineAnnealingLR(optimizer, T_max=epochs), []
    for _ in range(epochs):
        wanted.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates(epochs=epochs, lr=lr, schedule="cosine") == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("warmup", [1, 4])
@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_warm_up_rises_in_equal_steps_and_ends_at_lr(schedule: str, warmup: int) -> None:
    found = rates(epochs=20, lr=0.1, schedule=schedule, warmup_epochs=warmup)
    assert found[: warmup + 1] == pytest.approx([0.1 * (step + 1) / (warmup + 1) for step in range(warmup + 1)])
    assert found[warmup] == 0.1
    assert max(found) == 0.1


def test_after_the_warm_up_comes_a_whole_cosine() -> None:
    found = rates(epochs=25, lr=0.1, schedule="cosine", warmup_epochs=5)
    assert found[5:] == pytest.approx(rates(epochs=20, lr=0.1, schedule="cosine"))
    assert found[15] == pytest.approx(0.05)
    assert 0 < found[-1] < 0.1 * 0.5 * (1 + math.cos(math.pi * 18 / 20))


def test_constant_stays() -> None:
    assert rates(epochs=7, lr=0.01, schedule="constant") == [0.01] * 7
