"""One training in several processes: each takes its share of every batch, and all make the same step.

Each process computes the logits of its own images; the logits of the whole batch are gathered, so that any loss is that
of the whole batch, and gradients are summed. BatchNorm's statistics are those of the whole batch. Without a group of
processes every function here leaves what it gets as it is.
"""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch import distributed as dist
from torch.overrides import TorchFunctionMode

from pipeline.base import process
from pipeline.base.errors import PASSING, PassingError, StageError, legible
from pipeline.base.places import cores
from pipeline.inference.device import pick_device

Value = TypeVar("Value")


def rank() -> int:
    return dist.get_rank() if joined() else 0


def world() -> int:
    return dist.get_world_size() if joined() else 1


def joined() -> bool:
    return dist.is_available() and dist.is_initialized()


def launched() -> bool:
    """Whether this process is one of several, started by `spawn` or by torchrun."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def first_host() -> bool:
    """Whether this machine keeps the result: it is alone, or the first of NNODES."""
    return os.environ.get("NNODES", "1") == "1" or os.environ.get("NODE_RANK") == "0"


def hosts() -> tuple[int, int]:
    """(how many machines make the training together, which of them this is): NNODES and NODE_RANK."""
    if os.environ.get("NNODES", "1") == "1":
        return 1, 0
    names = ("NNODES", "NODE_RANK", "MASTER_PORT")
    found = [os.environ.get(name, "") for name in names]
    if not all(map(str.isdecimal, found)) or not os.environ.get("MASTER_ADDR"):
        raise StageError(
            f"{', '.join(names)} and MASTER_ADDR: several hosts need them all in the environment, in numbers"
        )
    return int(found[0]), int(found[1])


def part(count: int, rank: int, world: int) -> slice:
    """The rows of `count` that process `rank` takes: all processes together take each once, in order."""
    return slice(count * rank // world, count * (rank + 1) // world)


def own(count: int) -> slice:
    return part(count, rank(), world())


def gathered(rows: Tensor, count: int) -> Tensor:
    """rows (n, ...), this process's of `count` -> (count, ...), everybody's; gradients flow into one's own."""
    if world() == 1:
        return rows
    parts = [part(count, index, world()) for index in range(world())]
    sizes = [each.stop - each.start for each in parts]
    sent = rows.new_zeros(max(sizes), *rows.shape[1:])
    sent[: len(rows)] = rows.detach()
    received = [torch.empty_like(sent) for _ in sizes]
    dist.all_gather(received, sent)
    pieces = [piece[:size] for piece, size in zip(received, sizes, strict=True)]
    pieces[rank()] = rows
    return torch.cat(pieces)


def sum_gradients(network: nn.Module) -> None:
    """Replace each gradient by its sum over the processes, in one message."""
    if world() == 1:
        return
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    if gradients:
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        dist.all_reduce(flat)
        for gradient, summed in zip(gradients, flat.split([each.numel() for each in gradients]), strict=True):
            gradient.copy_(summed.view(gradient.shape))


def from_first(value: Value) -> Value:
    """What process 0 has, everywhere."""
    if world() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


class _Sum(torch.autograd.Function):
    """The sum over the processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(_: Any, value: Tensor) -> Tensor:
        value = value.clone()
        dist.all_reduce(value)
        return value

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        gradient = gradient.contiguous().clone()
        dist.all_reduce(gradient)
        return gradient


def batch_norm(
    images: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """`F.batch_norm`, in training by the statistics of all processes' images (N, C, ...), in float32."""
    if not training:
        return F.batch_norm(images, running_mean, running_var, weight, bias, False, momentum, eps)
    over = [axis for axis in range(images.dim()) if axis != 1]
    shape = [1, -1] + [1] * (images.dim() - 2)
    values = images.float()
    count = _Sum.apply(values.new_tensor([values.numel() / values.shape[1]]))
    mean = _Sum.apply(values.sum(over)) / count
    centred = values - mean.view(shape)
    variance = _Sum.apply(centred.square().sum(over)) / count
    if running_mean is not None and running_var is not None:
        with torch.no_grad():
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            running_var.lerp_((variance * (count / (count - 1))).to(running_var.dtype), momentum)
    scale = torch.rsqrt(variance + eps) * (1 if weight is None else weight.float())
    shift = 0 if bias is None else bias.float().view(shape)
    return (centred * scale.view(shape) + shift).to(images.dtype)


class Synchronised(TorchFunctionMode):
    """Within it, BatchNorm of whatever class is that of the whole batch: all of them call F.batch_norm."""

    def __torch_function__(self, called: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return (batch_norm if called is F.batch_norm else called)(*args, **(kwargs or {}))


@contextlib.contextmanager
def group() -> Iterator[None]:
    """Join the group that RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT name: gloo on a CPU, NCCL among GPUs."""
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    try:
        with Synchronised():
            yield
    finally:
        dist.destroy_process_group()


def run(main: Callable[[], None]) -> None:
    """Call `main` as one process of a group; a StageError becomes one line and exit status 1."""
    try:
        with group():
            main()
    except StageError as error:
        if os.environ["RANK"] == "0" or os.environ.get("LOCAL_RANK") == "0":
            print(f"versus: {legible(str(error))}", file=sys.stderr)
        sys.exit(PASSING if isinstance(error, PassingError) else 1)


def stage(main: Callable[[], None]) -> None:
    """Run a stage's `main`: as one process of a group where this is one, else as the stage itself."""
    if launched():
        run(main)
    else:
        process.run(main, alone=first_host())  # the others run the same stage at the same time


def trained_by_several(protocol: Mapping[str, Any], module: str, *arguments: str) -> bool:
    """Whether a training by `protocol` took several processes, which ran `python -m module arguments`, to their end.

    If not, it is this process that is to train: as the only one, or as one of several.
    """
    if protocol["devices"] == 1 or launched():
        return False
    spawn(protocol["devices"], pick_device(protocol["device"]).type, module, *arguments)
    return True


def spawn(devices: int, kind: str, module: str, *arguments: str) -> None:
    """Run `python -m module arguments` in so many processes, one for each GPU where `kind` is cuda, to their end.

    With NNODES in the environment they are those of several hosts, which meet at MASTER_ADDR and MASTER_PORT; each host
    calls this. Raises StageError if one of them dies; the others are ended first.
    """
    import logging

    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    here = processes_here(devices, kind)
    for name in ("torch.distributed.elastic", "torch.distributed.launcher"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, len(cores()) // here)))
    config = LaunchConfig(
        nproc_per_node=here,
        max_restarts=0,
        virtual_local_rank=kind == "cuda",
        shutdown_timeout=10,
        **meeting(module),
    )
    try:
        elastic_launch(config, sys.executable)("-m", module, *arguments)
    except ChildFailedError as error:
        number, failure = error.get_first_failure()
        if failure.exitcode == PASSING:
            raise PassingError(f"process {number} of {devices} stopped; what it said stands above") from None
        if failure.exitcode == 1:
            why = "stopped; what it said stands above"
        else:
            why = f"died (exit status {failure.exitcode}), and the others were ended; run again"
        raise StageError(f"process {number} of {devices} {why}") from None


def processes_here(devices: int, kind: str) -> int:
    """How many of the processes this host runs; raises StageError if hosts cannot share them alike or GPUs are few."""
    count, _ = hosts()
    here, left = divmod(devices, count)
    if left or not here:
        raise StageError(
            f"params.yaml: train.devices: got {devices}, for NNODES={count} hosts; choose a multiple of it"
        )
    if kind == "cuda" and here > torch.cuda.device_count():
        have = torch.cuda.device_count()
        raise StageError(f"params.yaml: train.devices: got {here} a host, this machine shows {have} GPUs; lower it")
    return here


def meeting(name: str) -> dict[str, Any]:
    """What torch's launcher is to know of the hosts and where they meet; several take `name` for the meeting's."""
    import uuid

    count, index = hosts()
    nodes = {"min_nodes": count, "max_nodes": count}
    if count == 1:
        place = {"rdzv_backend": "c10d", "rdzv_endpoint": "localhost:0", "local_addr": "localhost"}
        return {**nodes, **place, "run_id": uuid.uuid4().hex}
    address = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
    configs = {"rank": index, "timeout": 900}
    return {**nodes, "rdzv_backend": "static", "rdzv_endpoint": address, "rdzv_configs": configs, "run_id": name}
