"""Each name of the registry is a file that has what the registry promises, in the form that its users call it."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from pipeline.networks import builder
from pipeline.params import registry, settings
from pipeline.training import step
from pipeline.training.losses.weights import weighted_mean
from pipeline.training.optim.schedule import SCHEDULES, learning_rate

PROTOCOL = settings.Train(epochs=1, batch_size=2, lr=0.1).model_dump()
CPU = torch.device("cpu")


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("loss", registry.LOSSES)
def test_a_loss_takes_class_weights_smoothed_labels_and_shares(loss: str, soft: bool) -> None:
    """Each changes it, and right answers cost less than wrong ones."""
    noise = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)) / 10
    labels, shares = torch.tensor([0, 1, 2, 2]), torch.tensor([[0.8, 0.2, 0], [0.1, 0.9, 0], [0, 0, 1], [0, 0.4, 0.6]])
    targets = shares if soft else labels
    right = 3 * torch.eye(3)[labels] + noise
    values = set()
    for changes in ({}, {"class_weights": "inverse"}, {"label_smoothing": 0.1}):
        found = step.make_loss(labels, {**PROTOCOL, "loss": loss, **changes}, 3, CPU)
        assert found(right, targets).isfinite()
        assert found(right, targets) < found(right.roll(1, 1), targets)
        values.add(round(found(right, targets).item(), 6))
    assert len(values) == 3


@pytest.mark.parametrize("loss", [name for name in registry.LOSSES if name != "cross_entropy"])
def test_a_loss_says_of_each_image_what_each_class_would_cost(loss: str) -> None:
    logits = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    found = registry.load("training.losses", loss).losses(logits)
    assert found.shape == logits.shape
    assert_close(found[:3], registry.load("training.losses", loss).losses(logits[:3]), msg="images are told apart")
    assert weighted_mean(found, torch.tensor([0, 1, 2, 3, 0, 1])).isfinite()


def test_a_losss_own_setting_is_the_key_that_begins_with_its_name() -> None:
    def losses(logits: torch.Tensor, gamma: float = 1.0, beta: float = 3.0) -> torch.Tensor:
        return logits * gamma * beta

    assert step.own_settings(losses, "focal", {"focal_gamma": 5.0, "gamma": 0.1, "lr": 1.0}) == {"gamma": 5.0}


@pytest.mark.parametrize("name", registry.OPTIMIZERS)
def test_an_optimiser_steps_downhill_at_the_rate_that_the_protocol_gives(name: str) -> None:
    network = nn.Linear(4, 1)
    nn.init.zeros_(network.weight)
    optimizer = step.make_optimizer(network, {**PROTOCOL, "optimizer": name, "lr": 0.02}, CPU)
    assert {group["lr"] for group in optimizer.param_groups} == {0.02}
    found = []
    for _ in range(3):
        optimizer.zero_grad()
        loss = (network(torch.ones(8, 4)) - 5).square().mean()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    assert found[0] > found[1] > found[2]


def test_every_schedule_is_a_choice_and_every_choice_a_schedule() -> None:
    assert tuple(SCHEDULES) == registry.SCHEDULES


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_gives_a_rate_for_every_step(name: str) -> None:
    rates = [
        learning_rate(n, steps=9, lr=0.1, schedule=name, warmup_steps=2, drop_every=3, gamma=0.5) for n in range(9)
    ]
    assert all(0 <= rate <= 0.1 + 1e-12 for rate in rates)
    assert max(rates) > 0.05


@pytest.mark.parametrize("name", registry.AUGMENTATIONS)
def test_an_augmentation_is_a_key_and_changes_some_images_by_their_own_draws(name: str) -> None:
    assert settings.Augment.model_fields[name].default == 0
    module, images = registry.load("images.augment", name), torch.randn(9, 3, 16, 16)
    draws = torch.rand(9, module.DRAWS, generator=torch.Generator().manual_seed(0))
    found = getattr(module, name)(images, 1.0, draws)
    assert found.shape == images.shape
    assert found.isfinite().all()
    assert_close(getattr(module, name)(images[3:4], 1.0, draws[3:4]), found[3:4], msg="an image's batch is no matter")


@pytest.mark.parametrize("name", registry.TECHNIQUES)
def test_a_technique_of_networks_is_a_key_that_is_off(name: str) -> None:
    assert callable(getattr(registry.load("networks", name), f"add_{name}"))
    assert not settings.TimmModel.model_fields[name].default


@pytest.mark.parametrize("family", settings.FAMILIES)
def test_a_family_has_a_module_that_builds_it(family: str) -> None:
    assert callable(builder(family))
