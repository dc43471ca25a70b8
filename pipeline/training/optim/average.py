"""Averages of the weights along training, with torch's AveragedModel.

`swa` (Izmailov et al. 2018, arXiv:1803.05407): the mean over the ends of the last epochs; its BatchNorm statistics are
computed anew from training images. `ema`: a moving average over all steps, BatchNorm statistics included, whose decay
grows to its final value as timm's does, so that the first weights are forgotten.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn


class Average:
    def __init__(self, network: nn.Module, kind: str, *, decay: float = 0.999, start: int = 0) -> None:
        """`kind` is swa or ema; swa averages from epoch `start` (counted from 0) on."""
        self.kind, self.decay, self.start, self.steps = kind, decay, start, 0
        self.model = AveragedModel(network, use_buffers=kind == "ema")

    def after_step(self, network: nn.Module) -> None:
        if self.kind == "ema":
            self.steps += 1
            decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
            self.model.multi_avg_fn = get_ema_multi_avg_fn(decay)
            self.model.update_parameters(network)

    def after_epoch(self, network: nn.Module, epoch: int) -> None:
        if self.kind == "swa" and epoch >= self.start:
            self.model.update_parameters(network)

    def finish(self, images: Iterable[Tensor], device: torch.device) -> nn.Module:
        """The averaged network; `images` are batches of training images."""
        network = self.model.module
        if self.kind == "swa":
            update_bn(images, network, device)
        return network

    def state_dict(self) -> dict[str, Any]:
        return {"model": self.model.state_dict(), "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.steps = state["steps"]
