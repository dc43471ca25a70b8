"""Gradient descent with Nesterov's momentum (Sutskever et al. 2013), torch's."""

from collections.abc import Iterable

import torch
from torch import nn


def optimizer(parameters: Iterable[nn.Parameter], *, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=lr, weight_decay=weight_decay, momentum=0.9, nesterov=True)
