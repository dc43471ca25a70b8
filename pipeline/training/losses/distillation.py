"""Distillation (Hinton et al. 2015, arXiv:1503.02531), section 2: a student learns what a teacher answers.

Cross-entropy between softmax(teacher / T) and softmax(student / T), times T^2, which keeps gradients alike over T; less
the teachers' entropy, on which the student has no influence, so that a student that answers as they do loses 0.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def soft_labels(logits: Tensor, temperature: float) -> Tensor:
    """logits (R, N, K) of R teachers -> their mean probabilities (N, K) at a temperature."""
    return (logits.float() / temperature).softmax(2).mean(0)


def distillation_loss(logits: Tensor, soft: Tensor, temperature: float) -> Tensor:
    """logits (N, K) of the student, `soft` labels (N, K) at the same temperature. Returns the mean, a scalar."""
    apart = F.kl_div(torch.log_softmax(logits / temperature, dim=1), soft, reduction="batchmean")
    return temperature**2 * apart
