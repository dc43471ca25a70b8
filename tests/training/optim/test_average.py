"""An average of weights is the arithmetic one, or the recursive formula, with BatchNorm statistics that fit it."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn
from torch.testing import assert_close

from pipeline.training.optim.average import Average

CPU = torch.device("cpu")
PICTURES = torch.randn(40, 2, 6, 6, generator=torch.Generator().manual_seed(0)) * 3 + 1


def network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, 3)).train()


def walk(net: nn.Module, step: int) -> dict[str, Tensor]:
    """Move the weights and the running statistics to somewhere else; their new values."""
    rng = torch.Generator().manual_seed(step)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=rng))
        net(torch.randn(8, 2, 6, 6, generator=rng))
    return copy.deepcopy(net.state_dict())


@pytest.mark.parametrize("start", [0, 2, 4])
def test_swa_is_the_mean_of_the_ends_of_the_epochs_from_start_on(start: int) -> None:
    net = network()
    average, ends = Average(net, "swa", start=start), []
    for epoch in range(5):
        for step in range(3):
            state = walk(net, 10 * epoch + step)
            average.after_step(net)
        ends.append(state)
        average.after_epoch(net, epoch)
    found = average.finish([PICTURES], CPU)
    for name, parameter in found.named_parameters():
        assert_close(parameter, torch.stack([state[name] for state in ends[start:]]).mean(0))
        assert net.get_parameter(name).equal(ends[-1][name]), "the network itself goes on"


def test_swa_has_the_statistics_that_torchs_update_bn_finds() -> None:
    net = network()
    average = Average(net, "swa")
    for epoch in range(3):
        walk(net, epoch)
        average.after_epoch(net, epoch)
    wanted = copy.deepcopy(average.model.module)
    batches = PICTURES.split(10)
    update_bn(batches, wanted)
    found = average.finish(iter(batches), CPU)
    assert_close(found.state_dict(), wanted.state_dict())
    assert_close(found[1].running_mean, found[0](PICTURES).mean((0, 2, 3)))
    assert found[1].momentum == 0.1
    assert not found[1].running_mean.allclose(net[1].running_mean, atol=0.1)


@pytest.mark.parametrize("decay", [0.5, 0.999])
def test_ema_is_the_recursive_formula_statistics_included(decay: float) -> None:
    net = network()
    average, wanted = Average(net, "ema", decay=decay), {}
    for step in range(1, 30):
        state = walk(net, step)
        share = min(decay, (1 + step) / (10 + step)) if wanted else 0.0
        wanted = {
            key: share * wanted.get(key, 0.0) + (1 - share) * value
            for key, value in state.items()
            if value.is_floating_point()
        }
        average.after_step(net)
        average.after_epoch(net, step)
    found = average.finish([], CPU).state_dict()
    for key, value in wanted.items():
        assert_close(found[key], value, msg=lambda text, key=key: f"{key}: {text}")


@pytest.mark.parametrize("kind", ["swa", "ema"])
def test_the_average_of_weights_that_stay_is_those_weights(kind: str) -> None:
    net = network()
    average = Average(net, kind)
    for epoch in range(4):
        average.after_step(net)
        average.after_epoch(net, epoch)
    found = average.finish(PICTURES.split(10), CPU)
    for name, parameter in net.named_parameters():
        assert_close(found.get_parameter(name), parameter)
