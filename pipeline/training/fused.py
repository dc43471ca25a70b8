"""BatchNorm, ReLU and the 2x2 max-pool behind them as one kernel forward and one backward, for `train.compile: fused`.

PyTorch reads and writes the images for each of the three apart, half of what a CPU does in networks of few channels.
The max-pool of BlurPool (networks/blurpool.py) takes as long again; another kernel is for that.

`fused` finds them in a network's graph; fused.cpp, compiled once for each processor, computes them in training. It sums
in another order, and so numbers differ by rounding from the plain layers', which stay in use wherever a kernel does not
fit: images of another form, one value per channel, evaluation. On one machine the bits are the same again, whatever the
number of threads.
"""

import ctypes
import functools
import platform
import subprocess
from pathlib import Path
from typing import Any, TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from pipeline.base import native
from pipeline.base.errors import StageError
from pipeline.inference.device import capabilities
from pipeline.networks.blurpool import Float32

SOURCE = Path(__file__).with_suffix(".cpp")
FLAGS = (
    *("-std=c++17", "-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fopenmp"),
    "-ffp-contract=off",  # else a compiler chooses where it rounds once for a product and a sum, and with it the bits
)
DTYPES = {torch.float32: "float32", torch.bfloat16: "bfloat16"}
KERNELS = {  # how many pointers and numbers
    "forward": (9, 2),
    "backward": (9, 0),
    "pool": (4, 0),
    "unpool": (4, 0),
    "blur": (4, 0),
    "unblur": (4, 0),
}
REMEDY = "choose none, or install a C++ compiler with OpenMP (on Linux g++; Debian, Ubuntu: apt install g++)"


def fused(network: nn.Module) -> nn.Module:
    """The network as it trains, its parameters and state shared, with NormReLU, MaxPool and MaxBlur for what they do.

    Raises StageError away from a CPU, without a compiler, for a network whose graph torch.fx cannot follow, and for one
    in which there is nothing to replace.
    """
    from torch import fx  # late: few trainings ask for it

    if any(parameter.device.type != "cpu" for parameter in network.parameters()):
        raise StageError("params.yaml: train.compile: fused is for a CPU; choose none, default or reduce-overhead")
    library()
    was = network.training
    try:
        tracer = fx.Tracer()
        tracer.is_leaf_module = _is_whole  # type: ignore[method-assign]
        graph = fx.GraphModule(network, tracer.trace(network.train()))
    except Exception as error:  # whatever a network does that depends on its images
        reason = " ".join(str(error).split())[:150]
        raise StageError(
            f"params.yaml: train.compile: fused cannot follow this network ({reason}); choose none"
        ) from None
    finally:
        network.train(was)
    found = [node for node in graph.graph.nodes if _replace(graph, node)]
    if not found:
        raise StageError("params.yaml: train.compile: fused finds nothing to fuse in this network; choose none")
    graph.delete_all_unused_submodules()
    graph.recompile()
    return graph


def _is_whole(m: nn.Module, module_qualified_name: str) -> bool:  # noqa: ARG001 (named as torch.fx names them)
    """Whether nothing is to be replaced among a module's parts: then it is taken as one, whatever it does."""
    return not any(isinstance(part, (nn.BatchNorm2d, nn.MaxPool2d)) for part in m.modules() if part is not m)


class NormReLU(nn.Module):
    """BatchNorm, ReLU and, if `pool`, a 2x2 max-pool. Images (N, C, H, W) -> (N, C, H, W) or (N, C, H // 2, W // 2)."""

    def __init__(self, norm: nn.BatchNorm2d, pool: bool) -> None:
        super().__init__()
        self.norm, self.pool = norm, pool

    def forward(self, x: Tensor) -> Tensor:
        rows = x.numel() // self.norm.num_features
        if not self.norm.training or rows < 2 or not fits(x, 1 + self.pool) or x.shape[1] != self.norm.num_features:
            return self.plain(x)
        assert self.norm.num_batches_tracked is not None
        self.norm.num_batches_tracked.add_(1)
        return _NormReLU.apply(x, self.norm.weight, self.norm.bias, self.norm, self.pool)

    def plain(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm(x), inplace=True)
        return F.max_pool2d(y, 2) if self.pool else y


class MaxPool(nn.Module):
    """The 2x2 max-pool alone. Images (N, C, H, W) -> (N, C, H // 2, W // 2)."""

    def forward(self, x: Tensor) -> Tensor:
        return _MaxPool.apply(x) if fits(x, 2) else F.max_pool2d(x, 2)


class MaxBlur(nn.Module):
    """BlurPool's dense 2x2 max-pool and strided blur. Images (N, C, H, W) -> (N, C, H // 2, W // 2) in float32."""

    def __init__(self, dense: nn.MaxPool2d, blur: Float32) -> None:
        super().__init__()
        self.dense, self.blur = dense, blur

    def forward(self, x: Tensor) -> Tensor:
        return _MaxBlur.apply(x) if self.training and fits(x, 3) else self.blur(self.dense(x))


def fits(x: Tensor, least: int) -> bool:
    """Whether the kernels take these images as they lie, of which neither side is below `least`."""
    if x.dim() != 4 or x.dtype not in DTYPES or x.device.type != "cpu" or not x.numel():
        return False
    return min(x.shape[2:]) >= least and x.is_contiguous(memory_format=torch.channels_last)


class _Batch(ctypes.Structure):
    """fused.cpp's Batch."""

    _fields_ = [(name, ctypes.c_long) for name in ("images", "height", "width", "channels", "threads")]


class _NormReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, norm: nn.BatchNorm2d, pool: bool) -> Tensor:
        y, place = _pooled(x) if pool else (torch.empty_like(x), None)
        kept = torch.empty(2, x.shape[1])  # mean and inverse standard deviation
        tensors = (x, y, place, weight, bias, norm.running_mean, norm.running_var, kept)
        _call("forward", x, tensors, norm.momentum, norm.eps)
        ctx.save_for_backward(x, place, weight, bias, kept)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, place, weight, bias, kept = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        out, gradients = torch.empty_like(x), torch.empty_like(kept)
        _call("backward", x, (x, gradient, place, out, weight, bias, kept, gradients))
        return out, gradients[0], gradients[1], None, None


class _MaxPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y, place = _pooled(x)
        _call("pool", x, (x, y, place))
        ctx.save_for_backward(place)
        ctx.shape = x.shape
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        out = torch.empty(ctx.shape, dtype=gradient.dtype, memory_format=torch.channels_last)
        _call("unpool", out, (gradient, *ctx.saved_tensors, out))
        return out


class _MaxBlur(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        count, channels, height, width = x.shape
        y = torch.empty(
            (count, channels, height // 2, width // 2), dtype=torch.float32, memory_format=torch.channels_last
        )
        place = torch.empty(count * (height - 1) * (width - 1) * channels, dtype=torch.uint8)
        _call("blur", x, (x, y, place))
        ctx.save_for_backward(place)
        ctx.shape, ctx.dtype = x.shape, x.dtype
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        out = torch.empty(ctx.shape, dtype=ctx.dtype, memory_format=torch.channels_last)
        _call("unblur", out, (gradient, *ctx.saved_tensors, out))
        return out


def _pooled(x: Tensor) -> tuple[Tensor, Tensor]:
    """Room for a quarter of the images, and for the place of each value among the four that it is the largest of."""
    size = (*x.shape[:2], x.shape[2] // 2, x.shape[3] // 2)
    y = torch.empty(size, dtype=x.dtype, memory_format=torch.channels_last)
    return y, torch.empty_like(y, dtype=torch.uint8)


def _call(kernel: str, images: Tensor, tensors: tuple[Tensor | None, ...], *numbers: float | None) -> None:
    """Call a kernel for the type and shape of `images` (N, C, H, W)."""
    count, channels, height, width = images.shape
    batch = _Batch(count, height, width, channels, torch.get_num_threads())
    pointers = (None if tensor is None else tensor.data_ptr() for tensor in tensors)
    getattr(library(), f"{kernel}_{DTYPES[images.dtype]}")(*pointers, ctypes.addressof(batch), *numbers)


@functools.cache
def library() -> ctypes.CDLL:
    """fused.cpp, compiled for this processor."""
    try:
        kernels = native.compiled(SOURCE, FLAGS, instructions())
    except (OSError, subprocess.SubprocessError) as error:
        said = " ".join(str(getattr(error, "stderr", None) or error).split())[:150]
        raise StageError(f"params.yaml: train.compile: fused does not work here ({said}); {REMEDY}") from None
    for name, (pointers, numbers) in KERNELS.items():
        for dtype in DTYPES.values():
            getattr(kernels, f"{name}_{dtype}").argtypes = [ctypes.c_void_p] * pointers + [ctypes.c_float] * numbers
    return kernels


def instructions(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """What tells processors apart that -march=native differs for: as torch says, else Linux, else the node's name."""
    if known := capabilities():
        return str(known)
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.node())


def _replace(graph: Any, node: Any) -> bool:
    """Put one module in the place of a BatchNorm, its ReLU and max-pool, or of a max-pool alone or with its blur.

    False for other layers.
    """
    modules = dict(graph.named_modules())

    def module(node: Any) -> nn.Module | None:
        return modules.get(node.target) if node.op == "call_module" else None

    def only_user(node: Any) -> Any:
        return next(iter(node.users)) if len(node.users) == 1 else node

    new: nn.Module
    norm = module(node)
    if _pools(norm, stride=2):
        new, replaced = MaxPool(), [node]
    elif isinstance(norm, nn.MaxPool2d) and _pools(norm, stride=1) and _blurs(blur := module(after := only_user(node))):
        new, replaced = MaxBlur(norm, blur), [node, after]
    elif isinstance(norm, nn.BatchNorm2d) and _usual(norm) and _rectifies(relu := only_user(node), module(relu)):
        pool = only_user(relu)
        replaced = [node, relu, pool] if _pools(module(pool), stride=2) else [node, relu]
        new = NormReLU(norm, pool=len(replaced) == 3)
    else:
        return False
    graph.add_submodule(f"fused_{node.name}", new)
    with graph.graph.inserting_after(replaced[-1]):
        replaced[-1].replace_all_uses_with(graph.graph.call_module(f"fused_{node.name}", node.args))
    for each in reversed(replaced):
        graph.graph.erase_node(each)
    return True


def _rectifies(node: Any, layer: nn.Module | None) -> bool:
    return node.target in (F.relu, torch.relu) or type(layer) is nn.ReLU


def _usual(norm: nn.BatchNorm2d) -> bool:
    """Whether it is torch's own, not one of a library's that does more, as most networks have it."""
    return type(norm) is nn.BatchNorm2d and norm.affine and norm.track_running_stats and norm.momentum is not None


def _pools(layer: nn.Module | None, stride: int) -> bool:
    """Whether a layer is a max-pool over windows of 2x2, `stride` apart."""
    if not isinstance(layer, nn.MaxPool2d) or layer.return_indices or layer.ceil_mode:
        return False
    sizes = (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
    return [torch.nn.modules.utils._pair(size) for size in sizes] == [(2, 2), (stride, stride), (0, 0), (1, 1)]


def _blurs(layer: nn.Module | None) -> TypeGuard[Float32]:
    """Whether a layer is the blur that BlurPool puts behind a max-pool."""
    if not isinstance(layer, Float32) or type(layer.module).__name__ != "BlurPool2d":
        return False
    blur = layer.module
    return (blur.filt_size, blur.stride, blur.pad_mode, blur.channels) == (3, 2, "reflect", None)
