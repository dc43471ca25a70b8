"""Training: images a second of ours, against a plain loop of timm's loader and optimiser at their best flags.

Network, batch, augmentation and number of threads are the same. Which of timm's flags are best on this machine is
found first, by a short race.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from timm.data import create_loader
from timm.data.transforms import ToNumpy
from timm.optim import create_optimizer_v2
from torch.utils.data import Dataset
from torchvision import transforms

from benchmarks import stepping
from benchmarks.bench import Row, compare, few, rate
from pipeline.inference.device import keep_freed_memory
from pipeline.training import precision

TARGETS = {stepping.CIFAR: ">= 2.4", stepping.MNIST: ">= 3"}
FAST = "bf16, channels last"


class Pictures(Dataset):
    def __init__(self, case: stepping.Case) -> None:
        self.images = [Image.fromarray(image.squeeze()) for image in stepping.pixels_of(case)]
        self.transform: Callable[[Any], Any] | None = None  # timm's loader sets one

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        assert self.transform is not None
        return self.transform(self.images[index]), index % 10


def timm_loop(case: stepping.Case, device: torch.device, workers: int, fast: bool, compiled: bool) -> Callable[[], int]:
    """An epoch by timm's parts: prefetching loader with persistent workers, fused AdamW; `fast` as FAST says."""
    dataset, amplitudes = Pictures(case), case.amplitudes
    crop = amplitudes.get("crop", 0.0)
    batches = create_loader(
        dataset,
        (case.channels, case.side, case.side),
        case.batch_size,
        is_training=True,
        scale=(1 - crop, 1.0),
        hflip=0.5 * (case.channels == 3),
        color_jitter=0.0,
        num_workers=workers,
        pin_memory=device.type == "cuda",
        device=device,
        mean=(0.5,) * case.channels,
        std=(0.25,) * case.channels,
    )
    if not crop:  # timm has no shifts: its own transforms are for ImageNet
        padding = round(amplitudes["shift"] * case.side)
        flip = [transforms.RandomHorizontalFlip()] * (case.channels == 3)
        shift = transforms.RandomCrop(case.side, padding=padding, padding_mode="edge")
        dataset.transform = transforms.Compose([shift, *flip, ToNumpy()])
    network = stepping.network_of(case).to(device).train()
    network = network.to(memory_format=torch.channels_last) if fast else network
    optimizer = create_optimizer_v2(network, "adamw", lr=0.001, weight_decay=0.01, fused=True)
    model = torch.compile(network) if compiled else network
    autocast = torch.autocast(device.type, dtype=torch.bfloat16, enabled=fast)

    def epoch() -> int:
        seen = 0
        for images, labels in batches:
            images = images.contiguous(memory_format=torch.channels_last) if fast else images
            with autocast:
                loss = F.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            seen += len(labels)
        stepping.finish(device)
        return seen

    return epoch


def best(case: stepping.Case, device: torch.device, workers: tuple[int, ...]) -> tuple[str, Callable[[], int]]:
    """timm's fastest loop here, and its flags: first the number of workers, then precision and compilation."""
    fast = precision.pick_precision("auto", device) == "bf16"
    loops = {(count, fast, False): timm_loop(case, device, count, fast, False) for count in workers}
    speeds = {flags: _speed(loop) for flags, loop in loops.items()}
    count = max(speeds, key=speeds.__getitem__)[0]
    compiled = {(count, False, True), (count, fast, True)}
    for flags in {(count, False, False), *few(compiled, set())} - set(loops):
        loops[flags] = timm_loop(case, device, *flags)
        speeds[flags] = _speed(loops[flags])
    flags = max(speeds, key=speeds.__getitem__)
    count, fast, compiled = flags
    name = f"{count} worker{'s' * (count != 1)}, {FAST if fast else 'fp32'}{', compiled' * compiled}"
    return name, loops[flags]


def _speed(loop: Callable[[], int]) -> float:
    loop()  # starts workers, compiles
    return rate(loop)


def row(case: stepping.Case, device: torch.device, target: str, workers: tuple[int, ...]) -> Row:
    train, _ = stepping.sides(case, device)
    flags, loop = best(case, device, workers)
    what = f"training against timm's loop: {case.name}, {stepping.place(device)}"
    note = f"timm's best flags here: {flags}"
    return compare(what, "images/s", lambda: rate(train), lambda: rate(loop), target, note=note)


def rows() -> Iterator[Row]:
    keep_freed_memory()
    for case, target in TARGETS.items():
        yield row(case, torch.device("cpu"), target, (0, 1, torch.get_num_threads()))
