"""Distillation against cross-entropy with shares, and what Hinton et al. say of its limits."""

import torch
import torch.nn.functional as F
from torch.testing import assert_close

from pipeline.training.losses.distillation import distillation_loss, soft_labels

RNG = torch.Generator().manual_seed(0)
STUDENT, TEACHER = torch.randn(2, 6, 5, generator=RNG, dtype=torch.float64)  # (N, K) each


def test_it_is_the_cross_entropy_with_soft_labels_less_what_no_student_changes() -> None:
    soft = soft_labels(TEACHER[None], 3.0).double()
    entropy = -(soft * soft.log()).sum(1).mean()
    expected = 9 * (F.cross_entropy(STUDENT / 3, soft) - entropy)
    assert_close(distillation_loss(STUDENT, soft, 3.0), expected)


def test_a_student_that_answers_as_its_teacher_loses_nothing() -> None:
    soft = soft_labels(TEACHER[None], 2.0).double()
    assert_close(distillation_loss(TEACHER, soft, 2.0), torch.zeros((), dtype=torch.float64), atol=1e-6, rtol=0)


def test_at_a_high_temperature_logits_are_matched() -> None:
    """Section 2.1: of logits whose mean is zero the gradient is (z - v) / K, here of a mean over N images."""
    student, teacher = (each - each.mean(1, keepdim=True) for each in (STUDENT, TEACHER))
    student.requires_grad_(True)
    soft = (teacher / 1e4).softmax(1)
    distillation_loss(student, soft, 1e4).backward()
    assert_close(student.grad, (student - teacher).detach() / 5 / len(student), atol=1e-5, rtol=1e-3)


def test_teachers_together_answer_with_their_mean_probabilities() -> None:
    both = soft_labels(torch.stack([TEACHER, STUDENT]), 1.0)
    assert_close(both, (TEACHER.float().softmax(1) + STUDENT.float().softmax(1)) / 2)
