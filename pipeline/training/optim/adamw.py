"""AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101), torch's."""

from collections.abc import Iterable

import torch
from torch import nn


def optimizer(
    parameters: Iterable[nn.Parameter], *, lr: float, weight_decay: float, fused: bool
) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=lr, weight_decay=weight_decay, fused=fused)
