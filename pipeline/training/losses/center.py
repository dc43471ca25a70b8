"""Centre loss (Wen et al. 2016, doi:10.1007/978-3-319-46478-7_31), eqs. 2-4: features are drawn to class centres.

Departs: the mean over a batch, not the sum, so that its weight does not depend on the batch's size.
"""

import torch
from torch import Tensor, nn


class Centers(nn.Module):
    """The centres, which follow their classes' features at their own `rate` (the paper's alpha)."""

    centers: Tensor  # (K, D)

    def __init__(self, classes: int, rate: float = 0.5) -> None:
        super().__init__()
        self.classes, self.rate = classes, rate
        self.register_buffer("centers", torch.zeros(classes, 0))

    def loss(self, features: Tensor, labels: Tensor) -> Tensor:
        """features (N, D), labels (N,). Returns half the mean squared distance."""
        if not self.centers.numel():
            self.centers = features.new_zeros(self.classes, features.shape[1])
        return (features - self.centers[labels]).square().sum(1).mean() / 2

    @torch.no_grad()
    def update(self, features: Tensor, labels: Tensor) -> None:
        """Eq. 4: a centre moves by `rate` times the sum of differences, over one more than its class's images."""
        counts = torch.bincount(labels, minlength=self.classes).to(features)  # (K,)
        away = torch.zeros_like(self.centers).index_add(0, labels, self.centers[labels] - features)
        self.centers -= self.rate * away / (1 + counts)[:, None]
