"""The learning rate by step is torch's, without torch's state."""

import math

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, OneCycleLR, StepLR

from pipeline.training.optim.schedule import learning_rate


def rates(**settings: object) -> list[float]:
    return [learning_rate(step, **settings) for step in range(settings["steps"])]


def torchs(kind: type[LRScheduler], steps: int, lr: float, **settings: object) -> list[float]:
    """The rates that a scheduler of torch's gives, step by step."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    scheduler, found = kind(optimizer, **settings), []
    for step in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if step < steps - 1:
            scheduler.step()
    return found


@pytest.mark.parametrize("steps", [1, 2, 25, 200])
@pytest.mark.parametrize("lr", [3e-4, 0.1])
def test_cosine_is_torchs_cosine_annealing(steps: int, lr: float) -> None:
    wanted = torchs(CosineAnnealingLR, steps, lr, T_max=steps)
    assert rates(steps=steps, lr=lr, schedule="cosine") == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("steps", [1, 3, 4, 5, 10, 25, 391, 3130])
@pytest.mark.parametrize("lr", [3e-4, 0.1])
def test_one_cycle_is_torchs(steps: int, lr: float) -> None:
    wanted = torchs(OneCycleLR, steps, lr, max_lr=lr, total_steps=steps, pct_start=0.5, cycle_momentum=False)
    assert rates(steps=steps, lr=lr, schedule="onecycle") == pytest.approx(wanted, rel=1e-9)


def test_one_cycle_of_two_steps_which_torch_cannot_divide_goes_down_from_the_peak() -> None:
    assert rates(steps=2, lr=0.1, schedule="onecycle") == pytest.approx([0.1, 0.1 / 25e4])


@pytest.mark.parametrize("steps", [101, 391 * 8])
def test_one_cycle_rises_to_lr_in_the_middle_and_falls_below_where_it_began(steps: int) -> None:
    found = rates(steps=steps, lr=0.1, schedule="onecycle")
    peak = found.index(max(found))
    assert peak == pytest.approx(steps / 2, abs=1.5)
    assert max(found) == pytest.approx(0.1, rel=1e-3)
    assert found[: peak + 1] == sorted(found[: peak + 1])
    assert found[peak:] == sorted(found[peak:], reverse=True)
    assert found[-1] < found[0] == pytest.approx(0.004)


@pytest.mark.parametrize("warmup", [1, 4])
@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_warm_up_rises_in_equal_steps_and_ends_at_lr(schedule: str, warmup: int) -> None:
    found = rates(steps=20, lr=0.1, schedule=schedule, warmup_steps=warmup)
    assert found[: warmup + 1] == pytest.approx([0.1 * (step + 1) / (warmup + 1) for step in range(warmup + 1)])
    assert found[warmup] == 0.1
    assert max(found) == 0.1


def test_after_the_warm_up_comes_a_whole_cosine() -> None:
    found = rates(steps=25, lr=0.1, schedule="cosine", warmup_steps=5)
    assert found[5:] == pytest.approx(rates(steps=20, lr=0.1, schedule="cosine"))
    assert found[15] == pytest.approx(0.05)
    assert 0 < found[-1] < 0.1 * 0.5 * (1 + math.cos(math.pi * 18 / 20))


def test_constant_stays() -> None:
    assert rates(steps=7, lr=0.01, schedule="constant") == [0.01] * 7


@pytest.mark.parametrize("schedule", ["cosine", "constant", "onecycle"])
def test_no_step_is_taken_at_a_rate_of_zero(schedule: str) -> None:
    for steps in (*range(1, 40), 7820):
        warmup = steps // 3
        assert min(rates(steps=steps, lr=1e-3, schedule=schedule, warmup_steps=warmup)) > 0


@pytest.mark.parametrize(("every", "gamma"), [(3, 0.1), (10, 0.5), (40, 0.1)])
def test_steps_are_torchs_step_lr_after_the_warm_up(every: int, gamma: float) -> None:
    wanted = torchs(StepLR, 25, 0.1, step_size=every, gamma=gamma)
    settings = {"lr": 0.1, "schedule": "step", "drop_every": every, "gamma": gamma}
    assert rates(steps=25, **settings) == pytest.approx(wanted)
    warm = rates(steps=29, warmup_steps=4, **settings)
    assert warm[:4] == pytest.approx([0.02, 0.04, 0.06, 0.08])
    assert warm[4:] == pytest.approx(wanted)
