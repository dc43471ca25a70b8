"""The fused kernels do what PyTorch's layers do, within rounding, and the same bits again."""

import copy
import ctypes
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from pipeline import networks
from pipeline.anywhere import pack
from pipeline.base import code, native
from pipeline.base.errors import StageError
from pipeline.networks.blurpool import add_blurpool
from pipeline.training import fused
from tests.training.test_fit import dropout_free, fit


def compiles() -> bool:
    try:
        fused.library()
    except StageError:
        return False
    return True


compiler = pytest.mark.skipif(not compiles(), reason="needs a C++ compiler with OpenMP")
SHAPES = [(7, 12, 10, 6), (3, 16, 8, 8), (2, 5, 5, 7), (1, 260, 4, 4), (4, 1, 3, 2), (2, 37, 1, 1), (1, 64, 13, 9)]
LAYERS = ("conv 8, conv 8 skip", "transition 12, pool, dw 16, pool", "conv 10")


def images(shape: tuple[int, ...], dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    made = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 2 + 1
    return made.to(dtype).contiguous(memory_format=torch.channels_last)


def layer(channels: int, pool: bool = False) -> fused.NormReLU:
    """With weights of both signs, and statistics of earlier batches."""
    norm = nn.BatchNorm2d(channels, eps=1e-3, momentum=0.3)
    with torch.no_grad():
        for number, tensor in enumerate((norm.weight, norm.bias, norm.running_mean)):
            assert tensor is not None
            tensor.copy_(torch.randn(channels, generator=torch.Generator().manual_seed(number)))
    return fused.NormReLU(norm, pool)


def passed(call: Callable[[Tensor], Tensor], x: Tensor, gradient: Tensor, norm: nn.Module) -> list[Tensor]:
    """What comes out, the gradients of images, weight and bias, and BatchNorm's state afterwards."""
    x = x.clone().requires_grad_()
    y = call(x)
    given = torch.autograd.grad(y, [x, *norm.parameters()], gradient)
    return [y.detach(), *given, *(buffer.clone() for buffer in norm.buffers())]


@compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_norm_and_relu_are_pytorchs_computed_in_float64(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """Odd sizes, one image, one pixel, channels that fill no vector; values of half precision are rounded once."""
    ours, x, gradient = layer(shape[1]), images(shape, dtype), images(shape, dtype, seed=1)
    exact = copy.deepcopy(ours.norm).double()
    found = passed(ours, x, gradient, ours.norm)
    wanted = passed(lambda x: F.relu(exact(x)), x.double(), gradient.double(), exact)
    assert [each.dtype for each in found[:3]] == [dtype, dtype, torch.float32]
    for number, (mine, true) in enumerate(zip(found, wanted, strict=True)):
        half = dtype == torch.bfloat16 and number < 2  # y and the gradient of x
        assert_close(mine.to(true.dtype), true, rtol=2**-8 if half else 1e-4, atol=2**-8 if half else 1e-4)


@compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", [shape for shape in SHAPES if min(shape[2:]) > 1], ids=str)
def test_pooling_changes_no_bit_of_what_the_layers_apart_give(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """Values in steps of a half are often equal within a window: the first has the gradient, as in PyTorch."""
    x = (images(shape, dtype) * 2).round() / 2
    together, apart = layer(shape[1], pool=True), layer(shape[1])
    gradient = images((*shape[:2], shape[2] // 2, shape[3] // 2), dtype, seed=1)
    found = passed(together, x, gradient, together.norm)
    wanted = passed(nn.Sequential(apart, nn.MaxPool2d(2)), x, gradient, apart.norm)
    assert all(torch.equal(mine, other) for mine, other in zip(found, wanted, strict=True))
    x[0, 0, 0, 0], x[-1, -1, 1, 1] = torch.nan, -torch.inf
    alone = [passed(pool, x, gradient, nn.Sequential()) for pool in (fused.MaxPool(), nn.MaxPool2d(2))]
    assert all(torch.equal(mine.nan_to_num(99), other.nan_to_num(99)) for mine, other in zip(*alone, strict=True))


BLURRED = [(7, 12, 10, 6), (3, 16, 8, 8), (2, 5, 5, 7), (1, 260, 4, 4), (4, 1, 3, 3), (2, 37, 28, 28), (1, 64, 13, 9)]


def blurring() -> nn.Sequential:
    """The max-pool of BlurPool, as networks have it."""
    network = nn.Sequential(nn.MaxPool2d(2))
    add_blurpool(network)
    made = network[0]
    assert isinstance(made, nn.Sequential)
    return made


@compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", BLURRED, ids=str)
def test_max_pools_with_a_blur_are_pytorchs_computed_in_float64(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """Where values of a window are equal, the first has the gradient."""
    plain = blurring()
    ours, x = fused.MaxBlur(plain[0], plain[1]), (images(shape, dtype) * 2).round() / 2
    gradient = images((*shape[:2], shape[2] // 2, shape[3] // 2), seed=1)
    found = passed(ours, x, gradient, nn.Sequential())
    exact = nn.Sequential(plain[0], copy.deepcopy(plain[1].module).double())
    wanted = passed(exact, x.double(), gradient.double(), nn.Sequential())
    assert [each.dtype for each in found] == [torch.float32, dtype]
    for mine, true, half in zip(found, wanted, (False, dtype == torch.bfloat16), strict=True):
        assert_close(mine.double(), true, rtol=2**-8 if half else 1e-5, atol=1e-3 if half else 1e-6)
    x[0, 0, 0, 0] = torch.nan
    assert torch.equal(ours(x).isnan(), plain(x).isnan())
    kernels = [type(ours.train(training)(x.requires_grad_()).grad_fn).__name__ for training in (True, False)]
    assert [name == "_MaxBlurBackward" for name in kernels] == [True, False], "evaluation is the plain layers'"


@compiler
def test_a_loss_that_diverged_stays_visible() -> None:
    x = images((2, 3, 4, 4))
    x[1, 2, 3, 3] = torch.nan
    for pool in (False, True):
        assert layer(3, pool)(x).isnan().any((0, 2, 3)).tolist() == [False, False, True]


@compiler
@pytest.mark.parametrize("kernel", ["norm and ReLU", "and pool", "and pool with blur"])
def test_the_number_of_threads_changes_no_bit(kernel: str) -> None:
    x, side = images((9, 12, 6, 6), torch.bfloat16), 6 if kernel == "norm and ReLU" else 3
    dtype = torch.float32 if "blur" in kernel else torch.bfloat16
    gradient = images((9, 12, side, side), dtype, seed=1)
    found, before = [], torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            ours = layer(12, pool=kernel == "and pool")
            blur = [fused.MaxBlur(*blurring())] if "blur" in kernel else []
            found.append(passed(nn.Sequential(ours, *blur), x, gradient, ours.norm))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(*pair) for other in found[1:] for pair in zip(found[0], other, strict=True))


@compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_what_the_compiler_optimises_changes_no_bit(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    x, gradient = images((9, 12, 6, 6), dtype), images((9, 12, 3, 3), dtype, seed=1)
    usual = layer(12, pool=True)
    wanted = passed(usual, x, gradient, usual.norm)
    fused.library.cache_clear()
    monkeypatch.setattr(fused, "FLAGS", (*fused.FLAGS, "-O0"))
    literal = layer(12, pool=True)
    found = passed(literal, x, gradient, literal.norm)
    fused.library.cache_clear()
    assert all(torch.equal(*pair) for pair in zip(found, wanted, strict=True))


@pytest.fixture
def no_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    def called(*_: object) -> None:
        raise AssertionError("a kernel was called")

    monkeypatch.setattr(fused, "_call", called)


@pytest.mark.usefixtures("no_kernels")
@pytest.mark.parametrize("pool", [False, True])
def test_what_no_kernel_takes_goes_through_the_plain_layers(pool: bool) -> None:
    """Images with channels apart, double precision, no images, evaluation."""
    shape = (2, 6, 4, 4)
    for x in (images(shape).contiguous(), images(shape).double(), images((0, 6, 4, 4))):
        ours, plain = layer(6, pool).to(x.dtype), layer(6, pool).to(x.dtype)
        assert_close(ours(x), plain.plain(x), rtol=0, atol=0)
    ours = layer(6, pool).eval()
    assert_close(ours(images(shape)), ours.plain(images(shape)), rtol=0, atol=0)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        layer(6)(images((1, 6, 1, 1)))
    with pytest.raises(RuntimeError, match="too small"):
        fused.MaxPool()(images((1, 6, 1, 4)))


def tiny(*layers: str, **settings: object) -> nn.Module:
    given = {"name": "m", "classes": 5, "image_size": 16, "seed": 0, "layers": layers}
    return networks.build("tiny", **{**given, **settings}).to(memory_format=torch.channels_last)


@compiler
def test_it_replaces_what_it_computes_and_leaves_the_networks_own_names() -> None:
    """A skip's sum stands between BatchNorm and ReLU; a pool behind a convolution is one alone."""
    network = tiny(*LAYERS).eval()
    names = list(network.state_dict())
    ours = fused.fused(network)
    kinds = [(type(module), getattr(module, "pool", None)) for name, module in ours.named_modules() if "." not in name]
    assert [kind for kind in kinds if kind[0].__module__ == fused.__name__] == [
        *[(fused.NormReLU, False), (fused.MaxPool, None), (fused.NormReLU, True), (fused.NormReLU, False)]
    ]
    assert list(network.state_dict()) == names
    assert not network.training
    x = images((4, 3, 16, 16))
    plain = copy.deepcopy(network).train()
    network.train()
    assert_close(ours(x), plain(x), rtol=1e-4, atol=1e-5)
    assert_close(network.state_dict(), plain.state_dict(), rtol=1e-4, atol=1e-5)


@compiler
@pytest.mark.parametrize("family", ["tiny", "resnet18"])
def test_networks_with_blurpool_train_as_without_kernels(family: str) -> None:
    """Their strided convolutions and the pools of other sizes stay as they are."""
    network = tiny(*LAYERS, blurpool=True)
    if family != "tiny":
        settings = {"classes": 5, "image_size": 32, "seed": 0, "blurpool": True, "args": {}}
        network = networks.build("timm", name="m", **settings, backbone=family, pretrained=False)
    network = network.to(memory_format=torch.channels_last).train()
    plain = copy.deepcopy(network)
    ours = fused.fused(network)
    blurs = sum(isinstance(module, fused.MaxBlur) for module in ours.modules())
    assert blurs == (2 if family == "tiny" else 0), "its pool is over 3x3"
    x, labels = images((4, 3, 32, 32)), torch.tensor([0, 1, 2, 3])
    for each in (ours, plain):
        F.cross_entropy(each(x), labels).backward()
    for (name, mine), other in zip(network.named_parameters(), plain.parameters(), strict=True):
        assert_close(mine.grad, other.grad, rtol=1e-2, atol=1e-4, msg=name)
    assert_close(network.state_dict(), plain.state_dict(), rtol=1e-3, atol=1e-5)


class Choosing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


@compiler
def test_what_cannot_be_fused_is_said() -> None:
    with pytest.raises(StageError, match=r"compile: fused finds nothing to fuse in this network; choose none"):
        fused.fused(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU()))
    with pytest.raises(StageError, match=r"compile: fused cannot follow this network \(.*\); choose none"):
        fused.fused(Choosing())
    with pytest.raises(StageError, match=r"compile: fused is for a CPU; choose none, default or reduce-overhead"):
        fused.fused(dropout_free().to("meta"))


@pytest.mark.parametrize("name", ["no-such-compiler", "false"])
def test_a_compiler_that_is_missing_or_fails_is_said(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".dvc").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(native.COMPILERS, ".cpp", name)
    fused.library.cache_clear()
    with pytest.raises(
        StageError, match=r"fused does not work here \(.*\); choose none, or install a C\+\+ compiler with OpenMP"
    ):
        fit(compile="fused")


def test_processors_are_told_apart_also_where_torch_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels compiled for one would end on another with an illegal instruction."""
    monkeypatch.setattr(fused, "capabilities", dict)
    monkeypatch.setattr(fused.platform, "node", lambda: "node-7")
    (cpuinfo := tmp_path / "cpuinfo").write_text("processor\t: 0\nflags\t\t: fpu avx2\nbugs\t\t:\n")
    assert fused.instructions(cpuinfo) == "flags\t\t: fpu avx2"
    assert fused.instructions(tmp_path / "none") == "node-7"
    keys: list[str] = []
    monkeypatch.setattr(native, "compiled", lambda *given: keys.append(given[2]) or ctypes.CDLL(None))
    fused.library.cache_clear()
    with pytest.raises(AttributeError):  # no kernels in there
        fused.library()
    assert keys == [fused.instructions()] != [""]


@compiler
def test_a_training_is_the_plain_ones_within_rounding_and_the_same_bits_again() -> None:
    plain, first, second = (fit(dropout_free(), epochs=2, compile=mode) for mode in ("none", "fused", "fused"))
    assert [row.train_loss for row in first.history] == pytest.approx([row.train_loss for row in plain.history], 1e-3)
    assert list(first.weights) == list(plain.weights), "the network's own names"
    assert all(torch.equal(first.weights[key], second.weights[key]) for key in first.weights)


def test_train_depends_on_the_kernels_and_packs_carry_them() -> None:
    assert "training/fused.cpp" in code.described("train")
    assert fused.SOURCE in pack.code()
