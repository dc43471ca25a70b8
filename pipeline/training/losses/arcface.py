"""ArcFace (Deng et al. 2019, arXiv:1801.07698), eq. 3, as logits to be given to cross-entropy: cos(theta + m) takes the
place of cos(theta) for an image's own class.

Where theta + m is beyond pi, cos(theta) - m sin(m) as in the authors' code, so that the target goes on falling.
"""

import math

import torch
from torch import Tensor


def arcface_logits(logits: Tensor, labels: Tensor, m: float, scale: float) -> Tensor:
    """logits (N, K) = scale cos(theta), labels (N,), m in radians -> logits (N, K) with margin."""
    rows = torch.arange(len(labels), device=labels.device)
    cosine = (logits[rows, labels] / scale).clamp(-1, 1)  # (N,)
    sine = (1 - cosine**2).clamp(min=1e-12).sqrt()
    beyond = cosine <= math.cos(math.pi - m)
    target = torch.where(beyond, cosine - m * math.sin(m), cosine * math.cos(m) - sine * math.sin(m))
    return logits.index_put((rows, labels), target * scale)
