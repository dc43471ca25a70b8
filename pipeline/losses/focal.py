"""Focal loss (Lin et al. 2017, arXiv:1708.02002), eq. 4: FL = -(1 - p)^gamma log p.

With class weights the mean is weighted as in torch's cross_entropy; gamma 0 is cross-entropy. Departs: label smoothing
mixes the focal losses of all classes, each focused by its own probability.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def focal_loss(
    logits: Tensor, labels: Tensor, gamma: float = 2.0, weight: Tensor | None = None, label_smoothing: float = 0.0
) -> Tensor:
    """logits (N, K), labels (N,), weight (K,). Returns a scalar."""
    log_p = F.log_softmax(logits, dim=1)  # (N, K)
    focus = (-torch.expm1(log_p)).clamp(min=1e-8) ** gamma  # 1 - p, kept off 0, where a root has no finite slope
    loss = -focus * log_p
    if weight is None:
        weight = logits.new_ones(logits.shape[1])
    targets = F.one_hot(labels, logits.shape[1]).to(logits)
    targets = targets * (1 - label_smoothing) + label_smoothing / logits.shape[1]
    return (loss * targets * weight).sum() / weight[labels].sum()
