"""Focal loss (Lin et al. 2017, arXiv:1708.02002), eq. 4: FL = -(1 - p)^gamma log p; gamma 0 is cross-entropy.

Departs: label smoothing mixes the focal losses of all classes, each focused by its own probability.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def losses(logits: Tensor, gamma: float = 2.0) -> Tensor:
    """logits (N, K) -> (N, K): what an image costs for each class, if it is the right one."""
    log_p = F.log_softmax(logits, dim=1)  # (N, K)
    focus = (-torch.expm1(log_p)).clamp(min=1e-8) ** gamma  # 1 - p, kept off 0, where a root has no finite slope
    return -focus * log_p
