"""A-Softmax (SphereFace, Liu et al. 2017, arXiv:1704.08063), eqs. 6-7, as logits to be given to cross-entropy.

psi(theta) = (-1)^k cos(m theta) - 2k on [k pi / m, (k + 1) pi / m] falls from 1 to 1 - 2m and takes the place of
cos(theta) for an image's own class; m 1 changes nothing. Annealed as in the authors' code: (lambda cos + psi) /
(1 + lambda), lambda = 1000 / (1 + 0.12 step) and never below a floor, 5 there. With the floor at 5 a margin of 4 never
weighs more than a sixth.
"""

import math

import torch
from torch import Tensor

COSINES = {  # cos(m theta) of c = cos(theta): Chebyshev's polynomials
    1: lambda c: c,
    2: lambda c: 2 * c**2 - 1,
    3: lambda c: 4 * c**3 - 3 * c,
    4: lambda c: 8 * c**4 - 8 * c**2 + 1,
}


def a_softmax_logits(logits: Tensor, lengths: Tensor, labels: Tensor, m: int, weight: float = 0.0) -> Tensor:
    """logits (N, K) = |x| cos(theta), lengths (N,) = |x|, labels (N,), `weight` lambda -> logits (N, K) with margin."""
    rows = torch.arange(len(labels), device=labels.device)
    lengths = lengths.clamp(min=1e-12)
    cosine = (logits[rows, labels] / lengths).clamp(-1, 1)  # (N,)
    target = (weight * cosine + psi(cosine, m)) / (1 + weight)
    return logits.index_put((rows, labels), target * lengths)


def psi(cosine: Tensor, m: int) -> Tensor:
    with torch.no_grad():
        k = (m * cosine.acos() / math.pi).floor().clamp(max=m - 1)
    return (1 - 2 * (k % 2)) * COSINES[m](cosine) - 2 * k


def annealed(step: int, floor: float) -> float:
    """lambda at a step, from 0."""
    return max(floor, 1000 / (1 + 0.12 * step))
