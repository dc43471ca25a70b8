"""What a training keeps while it runs, and what it came to."""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

from torch import Tensor

from pipeline.base.errors import StageError
from pipeline.records.diary import Epoch, Usage

DIVERGED = "lower train.lr, clip with train.clip_norm: 1.0 or set train.precision: fp32"


class DivergedError(StageError):
    """A training whose numbers are finite no more: of a trial a result, of any other training a fault."""

    def __init__(self, what: str, epoch: int) -> None:
        super().__init__(f"{what}; {DIVERGED}")
        self.epoch = epoch  # from 1


@dataclasses.dataclass(frozen=True)
class Fit:
    """What a training found, or has found so far."""

    history: list[Epoch]
    selected: Epoch
    weights: dict[str, Tensor]  # of the selected epoch, on the CPU
    seconds: float  # of training and validation, loading and saving apart
    usage: Usage  # of the machine meanwhile

    def state_dict(self) -> dict[str, Any]:
        """The same in types that `torch.load(weights_only=True)` reads."""
        history = [dataclasses.asdict(epoch) for epoch in self.history]
        plain = {name: dataclasses.asdict(getattr(self, name)) for name in ("selected", "usage")}
        return {**vars(self), **plain, "history": history}

    @classmethod
    def from_state_dict(cls, state: dict[str, Any]) -> "Fit":
        history = [Epoch(**row) for row in state["history"]]
        selected, usage = Epoch(**state["selected"]), Usage(**state["usage"])
        return cls(history, selected, state["weights"], state["seconds"], usage)


class Keeper(Protocol):
    """Keeps the state of a training where a kill does not reach it; pipeline/training/resume.py has one."""

    def load(self) -> dict[str, Any] | None: ...

    def save(self, state: Callable[[], dict[str, Any]], last: bool = False) -> None: ...
