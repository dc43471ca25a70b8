"""Teachers look at what their student looks at, and stay as they are; a training with them goes on as any other."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from pipeline.training import record
from pipeline.training.fit import Trainer
from pipeline.training.teachers import Teachers
from tests.training.test_fit import CLASSES, CPU, PROTOCOL, dropout_free, images, recipe, tiny

TEACHING = {**PROTOCOL, "teacher_temperature": 2.0, "teacher_weight": 0.5}


class Watched(nn.Module):
    """A network that notes what it is shown."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.shown = network, list[Tensor]()

    def forward(self, pixels: Tensor) -> Tensor:
        self.shown.append(pixels.detach().clone())
        return self.network(pixels)


class Kept:
    """Has the states of a training in memory."""

    def __init__(self) -> None:
        self.states: list[dict[str, Any]] = []

    def load(self) -> dict[str, Any] | None:
        return self.states[-1] if self.states else None

    def save(self, state: Callable[[], dict[str, Any]], last: bool = False) -> None:  # noqa: ARG002
        self.states.append(copy.deepcopy(state()))


def trainer(*teachers: nn.Module, student: nn.Module | None = None, strength: float = 1.0, **changes: Any) -> Trainer:
    protocol = {**TEACHING, **{key: value for key, value in changes.items() if key != "mixup"}}
    augment = {key: value for key, value in changes.items() if key == "mixup"}
    return Trainer(
        student or tiny(),
        images(),
        None if protocol["select"] == "last" else images((10, 10, 10), seed=1),
        recipe(strength, **augment),
        protocol,
        classes=CLASSES,
        seed=0,
        device=CPU,
        teachers=teachers,
    )


@pytest.mark.parametrize("changes", [{}, {"mixup": 0.2}], ids=str)
def test_a_teacher_sees_the_very_images_of_each_step(changes: dict[str, Any]) -> None:
    """Augmented and mixed as the student's, who looks twice with sharpness-aware minimisation."""
    teacher, student = Watched(tiny(1)), Watched(dropout_free())
    trainer(teacher, student=student, select="last", sam=0.05, **changes).run()
    assert len(teacher.shown) == 12  # 3 epochs of 4 steps
    for theirs, ours, again in zip(teacher.shown, student.shown[::2], student.shown[1::2], strict=True):
        assert theirs.equal(ours)
        assert theirs.equal(again)


def test_images_that_stay_the_same_are_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The student then learns what it learns of a teacher who looks every time, but for sums in another order."""
    teacher = Watched(tiny(1))
    once = trainer(teacher, strength=0.0).run()
    assert sum(map(len, teacher.shown)) == 60
    monkeypatch.setattr(Teachers, "look", lambda *_: None)
    always = trainer(tiny(1), strength=0.0).run()
    assert_close(once.weights, always.weights)


def test_a_teacher_stays_as_it_is() -> None:
    """In evaluation, its BatchNorm and dropout too: it draws nothing, so that the student's dropout is its own."""
    teacher = tiny(1)
    before = copy.deepcopy(teacher.state_dict())
    trainer(teacher).run()
    assert_close(teacher.state_dict(), before, rtol=0, atol=0)
    assert all(parameter.grad is None for parameter in teacher.parameters())
    drawn = torch.get_rng_state()
    trainer().run()
    assert torch.get_rng_state().equal(drawn)


def test_with_no_weight_a_teacher_changes_nothing() -> None:
    """params.yaml allows none: its cost would be for nothing."""
    assert_close(trainer(tiny(1), teacher_weight=0.0).run().weights, trainer().run().weights, rtol=0, atol=0)


def test_a_student_comes_to_answer_as_its_teacher_where_labels_say_nothing() -> None:
    teacher = trainer(select="last", epochs=10).run().weights
    network = tiny()
    network.load_state_dict(teacher)
    taught = trainer(network, student=tiny(3), teacher_weight=1.0, epochs=10, teacher_temperature=4.0).run()
    assert taught.history[-1].train_loss < 0.2 * taught.history[0].train_loss
    assert taught.selected.val_macro_f1 is not None
    assert taught.selected.val_macro_f1 > 0.9


@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_a_training_that_was_killed_goes_on_to_the_same_weights(strength: float) -> None:
    kept = Kept()
    whole = trainer(tiny(1), strength=strength).run(keeper=kept)
    kept.states = kept.states[:1]  # what there was after the first epoch
    again: record.Fit = trainer(tiny(1), strength=strength).run(keeper=kept)
    assert_close(again.weights, whole.weights, rtol=0, atol=0)
    assert again.history == whole.history
