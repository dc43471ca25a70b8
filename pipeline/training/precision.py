"""Which precision a device computes soundly in."""

import torch
from torch import Tensor, nn

from pipeline import networks
from pipeline.base.errors import StageError
from pipeline.inference.device import capabilities


def pick_precision(precision: str, device: torch.device) -> str:
    """`auto` is bf16 where the processor computes it, else fp16 with gradient scaling on a GPU, else fp32."""
    if precision == "fp16" and device.type == "cpu":
        raise StageError("params.yaml: train.precision: fp16 needs a GPU; choose bf16 or fp32 on a CPU")
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if device.type == "cpu" and capabilities().get("avx512_bf16", False):
        return "bf16"
    return "fp32"


def sound_precision(precision: str, device: torch.device, network: nn.Module, size: int) -> str:
    """`pick_precision` for one network: where bf16 would be wrong, auto is fp32 and an explicit bf16 a StageError."""
    picked = pick_precision(precision, device)
    unsound = strided_1x1(network, size) if device.type == "cpu" and picked == "bf16" else None
    if unsound is None:
        return picked
    if precision == "auto":
        return "fp32"
    raise StageError(
        "params.yaml: train.precision: bf16 gives wrong gradients on this processor where a convolution strides over"
        f" 1x1 maps ({unsound}); choose fp32 or auto, or a larger dataset.image_size"
    )


def strided_1x1(network: nn.Module, size: int) -> str | None:
    """The first convolution that strides over maps of 1x1 with a larger kernel.

    There torch 2.15's bf16 convolutions on a CPU leave garbage (1e35, inf) in the weight's gradient: the kernel's outer
    taps see padding alone, and their gradient is not set to zero.
    """
    unsound: list[str] = []

    def note(name: str, kernel: tuple[int, ...], stride: tuple[int, ...], images: Tensor) -> None:
        if max(images.shape[-2:]) == 1 and max(kernel) > 1 and max(stride) > 1:
            unsound.append(name)

    hooks = [
        module.register_forward_pre_hook(
            lambda module, inputs, name=name: note(name, module.kernel_size, module.stride, inputs[0])
        )
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d)
    ]
    with torch.no_grad():
        network.eval()(torch.zeros(1, networks.channels(network), size, size))
    for hook in hooks:
        hook.remove()
    return unsound[0] if unsound else None
