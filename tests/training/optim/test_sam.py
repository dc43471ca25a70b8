"""A step with SAM is the paper's, computed slowly: climb to the worst neighbour, take the gradient there, come back."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from pipeline.training.optim.sam import at_worst_neighbour

RHO, LR = 0.5, 0.1
PICTURES = torch.randn(12, 2, 6, 6, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(12) % 3


def network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        body = (nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
        return nn.Sequential(*body).double().train()


def backward(net: nn.Module) -> Tensor:
    loss = F.cross_entropy(net(PICTURES.double()), LABELS)
    loss.backward()
    return loss.detach()


def gradients(net: nn.Module) -> list[Tensor]:
    return [parameter.grad.clone() for parameter in net.parameters()]


def length(tensors: list[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().flatten() for tensor in tensors]).norm()


def textbook(start: nn.Module, rho: float) -> list[Tensor]:
    """Eqs. 2-3 of the paper on a copy: the gradient at w + rho * g / |g|."""
    here = copy.deepcopy(start)
    here.zero_grad()
    backward(here)
    found, there = gradients(here), copy.deepcopy(start)
    there.zero_grad()
    with torch.no_grad():
        for parameter, gradient in zip(there.parameters(), found, strict=True):
            parameter += rho * gradient / length(found)
    backward(there)
    return gradients(there)


@pytest.mark.parametrize("rho", [0.05, RHO])
def test_three_steps_are_the_textbooks(rho: float) -> None:
    net = network()
    optimizer = torch.optim.SGD(net.parameters(), lr=LR)
    for _ in range(3):
        wanted = [
            parameter - LR * gradient for parameter, gradient in zip(net.parameters(), textbook(net, rho), strict=True)
        ]
        optimizer.zero_grad()
        backward(net)
        with at_worst_neighbour(net, rho):
            backward(net)
        optimizer.step()
        assert_close(list(net.parameters()), wanted, rtol=1e-10, atol=1e-12)


def test_the_neighbour_lies_rho_away_along_the_gradient_where_the_loss_is_higher() -> None:
    net = network()
    before = [parameter.detach().clone() for parameter in net.parameters()]
    loss, climbed = backward(net), gradients(net)
    with at_worst_neighbour(net, RHO):
        moved = [after - value for after, value in zip(net.parameters(), before, strict=True)]
        assert length(moved).item() == pytest.approx(RHO)
        assert_close(moved, [gradient * RHO / length(climbed) for gradient in climbed])
        assert all(parameter.grad is None for parameter in net.parameters())
        assert backward(net) > loss


def test_the_weights_come_back_bit_for_bit_also_from_an_error() -> None:
    net = network()
    before = copy.deepcopy(dict(net.named_parameters()))
    backward(net)
    with pytest.raises(RuntimeError, match="no memory"), at_worst_neighbour(net, RHO):
        raise RuntimeError("no memory")
    assert all(parameter.equal(before[name]) for name, parameter in net.named_parameters())
    assert net[1].momentum == 0.1


def test_running_statistics_are_those_of_the_weights_and_not_of_their_neighbour() -> None:
    net, plain = network(), network()
    backward(plain)
    backward(net)
    with at_worst_neighbour(net, RHO):
        backward(net)
    for name in ("running_mean", "running_var"):
        assert getattr(net[1], name).equal(getattr(plain[1], name))
    assert plain[1].running_mean.abs().sum() > 0
    net(PICTURES.double())
    plain(PICTURES.double())
    assert net[1].running_mean.equal(plain[1].running_mean), "and go on from there"


def test_a_gradient_that_overflowed_leaves_the_running_statistics_as_they_were() -> None:
    """A float16 GradScaler provokes that, and leaves the step out."""
    net = network()
    backward(net)
    before = {name: buffer.clone() for name, buffer in net[1].named_buffers() if name.startswith("running")}
    net[0].weight.grad[0, 0, 0, 0] = torch.inf
    with at_worst_neighbour(net, RHO):
        assert not backward(net).isfinite()
    for name, values in before.items():
        assert getattr(net[1], name).equal(values)
    assert all(parameter.isfinite().all() for parameter in net.parameters())


def test_a_weight_without_gradient_stays_out_of_it() -> None:
    net = network()
    net[0].weight.requires_grad_(False)
    backward(net)
    with at_worst_neighbour(net, RHO):
        backward(net)
    assert net[0].weight.grad is None
    assert net[0].weight.equal(network()[0].weight)


def test_a_gradient_of_zero_leads_nowhere() -> None:
    net = network()
    for parameter in net.parameters():
        parameter.grad = torch.zeros_like(parameter)
    with at_worst_neighbour(net, RHO):
        assert all(a.equal(b) for a, b in zip(net.parameters(), network().parameters(), strict=True))
