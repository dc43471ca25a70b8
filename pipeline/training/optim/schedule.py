"""Learning rate by step, a function of the step alone, so that it needs no state to resume.

Linear warm-up, then constant, by steps (as torch's StepLR, counted from the end of the warm-up) or cosine (Loshchilov
and Hutter 2017, arXiv:1608.03983); or One Cycle (Smith and Topin
2018, arXiv:1708.07120) as torch's OneCycleLR anneals it, up in the first half and down in the second. Departs: the
momentum stays.
"""

import math
from collections.abc import Callable

START, END = 25, 25e4  # One Cycle begins at lr / START and ends at lr / END


def learning_rate(
    step: int,
    *,
    steps: int,
    lr: float,
    schedule: str,
    warmup_steps: int = 0,
    drop_every: int = 0,
    gamma: float = 1.0,
) -> float:
    """The rate of step 0, 1, ..., steps - 1. One Cycle has its own warm-up.

    "step" multiplies the rate by `gamma` after every `drop_every` steps.
    """
    if schedule != "onecycle":
        if step < warmup_steps:
            return lr * (step + 1) / (warmup_steps + 1)
        step, steps = step - warmup_steps, steps - warmup_steps
    return SCHEDULES[schedule](step, steps, lr, drop_every=drop_every, gamma=gamma)


def cosine(step: int, steps: int, lr: float, **_: float) -> float:
    return _between(lr, 0.0, step / steps)


def constant(_step: int, _steps: int, lr: float, **_: float) -> float:
    return lr


def one_cycle(step: int, steps: int, lr: float, **_: float) -> float:
    peak = 0.5 * steps - 1
    if step < peak:
        return _between(lr / START, lr, step / peak)
    return _between(lr, lr / END, (step - peak) / (steps - 1 - peak))


def stepped(step: int, _steps: int, lr: float, *, drop_every: int, gamma: float) -> float:
    return lr * gamma ** (step // drop_every)


def _between(start: float, end: float, share: float) -> float:
    """Half a cosine from `start` to `end`."""
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * share))


SCHEDULES: dict[
    str, Callable[..., float]
] = {  # name -> (step, steps, lr, drop_every and gamma by name) -> rate, counted from the end of the warm-up
    "cosine": cosine,
    "constant": constant,
    "onecycle": one_cycle,
    "step": stepped,
}
