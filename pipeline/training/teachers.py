"""The teachers of a training: networks that stay as they are and say what they see in each batch.

They look at the very images that the student is trained on, augmented and mixed alike: "a good teacher is patient and
consistent" (Beyer et al. 2022, arXiv:2106.05237), where labels that were computed once, of the images as they are, let
a student overfit. So what is cached is the teacher, and its labels are computed at every step.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.base.errors import StageError
from pipeline.images.form import Format
from pipeline.inference import loading
from pipeline.training import distributed
from pipeline.training.compiled import placed
from pipeline.training.losses.distillation import distillation_loss, soft_labels


class Teachers:
    """Networks that teach together, by the keys `teacher_...` of `protocol`."""

    def __init__(self, networks: Sequence[nn.Module], protocol: dict[str, Any], device: torch.device) -> None:
        self.networks = [placed(network, device, protocol["fast"]).eval() for network in networks]
        self.temperature, self.weight = protocol["teacher_temperature"], protocol["teacher_weight"]

    @torch.no_grad()
    def labels(self, images: Tensor, count: int) -> Tensor:
        """Soft labels (count, K) of a whole batch, of which `images` (N, C, S, S) are this process's share."""
        logits = torch.stack([network(images) for network in self.networks])  # (R, N, K)
        return distributed.gathered(soft_labels(logits, self.temperature), count)

    def beside(self, loss: Tensor, logits: Tensor, soft: Tensor) -> Tensor:
        """The loss of the labels with that of the soft labels, which have `weight`."""
        return (1 - self.weight) * loss + self.weight * distillation_loss(logits, soft, self.temperature)


def load(folders: Sequence[Path], classes: Sequence[str], form: Format) -> list[nn.Module]:
    """Trained networks; raises StageError for one of other classes, or that wants its images in another form."""
    found = []
    for folder in folders:
        network, config = loading.load(folder)
        own = dataclasses.replace(loading.image_format(config), views=form.views)
        for what, theirs, ours in (("classes", config["classes"], classes), ("images", own, form)):
            if theirs != ours:
                raise StageError(
                    f"train: the teacher {folder.name} knows other {what} than its student ({theirs}, {ours}); give"
                    " both the same settings of images, and run `dvc repro`"
                )
        found.append(network)
    return found
