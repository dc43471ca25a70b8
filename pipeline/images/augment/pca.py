"""PCA colour jitter (Krizhevsky et al. 2012, sec. 4.1): colours move along the principal axes of the data's colours.

Every pixel of an image gains the sum of alpha_i lambda_i p_i, where p_i and lambda_i are the eigenvectors and
eigenvalues of the covariance of the training images' RGB values in 0..1, and alpha_i is drawn once per image.
"""

import torch
from torch import Tensor


def axes(covariance: list[list[float]]) -> Tensor:
    """covariance (C, C) of values in 0..1 -> (C, C): column i is lambda_i p_i."""
    values, vectors = torch.linalg.eigh(torch.tensor(covariance, dtype=torch.float64))
    return (vectors * values).float()


def pca_jitter(images: Tensor, axes: Tensor, deviation: float, draws: Tensor) -> Tensor:
    """images (N, C, H, W) in 0..255, draws (N, C) in [0, 1): alpha is normal with mean 0 and this deviation."""
    alpha = deviation * torch.special.ndtri(draws.double().clamp(1e-6, 1 - 1e-6)).float()  # (N, C)
    return images + 255 * (alpha @ axes.T)[:, :, None, None]
