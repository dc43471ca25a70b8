"""The teachers of a training: networks that stay as they are and say what they see in each batch.

They look at the very images that the student is trained on, augmented and mixed alike: "a good teacher is patient and
consistent" (Beyer et al. 2022, arXiv:2106.05237), where labels that were computed once, of the images as they are, let
a student overfit. Where augmentation changes nothing from epoch to epoch both are the same, and soft labels are
computed once.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.base.errors import StageError
from pipeline.images import packed
from pipeline.images.batches import Batch
from pipeline.images.form import Format
from pipeline.images.recipe import Recipe, varies
from pipeline.inference import loading
from pipeline.training import distributed
from pipeline.training.compiled import placed
from pipeline.training.losses.distillation import distillation_loss, soft_labels
from pipeline.training.tuning import as_trained


class Teachers:
    """Networks that teach together, by the keys `teacher_...` of `protocol`."""

    once: Tensor | None = None  # (M, K), soft labels of all training images, where they are the same in every epoch

    def __init__(self, networks: Sequence[nn.Module], protocol: dict[str, Any], device: torch.device) -> None:
        self.networks = [placed(network, device, protocol["fast"]).eval() for network in networks]
        self.temperature, self.weight = protocol["teacher_temperature"], protocol["teacher_weight"]

    @torch.no_grad()
    def look(self, images: packed.Images, recipe: Recipe, batch_size: int, device: torch.device) -> None:
        """Label all training images, if augmentation makes nothing else of them in any epoch."""
        if not varies(recipe):
            own = packed.rows(images, distributed.own(len(images)))
            parts = [self.answers(part) for part in as_trained(own, recipe, batch_size, device)]
            self.once = distributed.gathered(torch.cat(parts), len(images))

    def labels(self, batch: Batch) -> Tensor:
        """Soft labels (N, K) of a whole batch, of which a process has but its share of the images."""
        if self.once is not None and batch.rows is not None:
            return self.once[batch.rows.to(self.once.device)]
        return distributed.gathered(self.answers(batch.images), len(batch.labels))

    @torch.no_grad()
    def answers(self, images: Tensor) -> Tensor:
        """The teachers' mean probabilities (N, K) for images (N, C, S, S)."""
        return soft_labels(torch.stack([network(images) for network in self.networks]), self.temperature)

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
