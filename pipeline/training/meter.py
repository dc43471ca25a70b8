"""What a training takes of its machine beside time: memory at its peak, and energy where the machine tells.

Energy is read from counters that only rise: of the processor's packages by RAPL, as Linux has it in /sys/class/powercap
(where only root may read it, unless the machine's owner allows others), of the GPU by NVML. They count all that runs on
the processor and on the GPU meanwhile, idle or not. What cannot be read was not measured; nothing is estimated.
"""

import contextlib
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from pipeline.records.diary import Usage
from pipeline.training import distributed

POWERCAP = Path("/sys/class/powercap")
PROCESS = Path("/proc/self")
OFTEN = 30.0  # seconds between two looks: a processor's counter begins anew after some 20 minutes


class Joules:
    """Adds up what counters rise by from now on; None from the first time on that they cannot be read."""

    def __init__(self, read: Callable[[], list[float]], ranges: list[float]) -> None:
        """`read` gives joules; a counter begins anew at 0 beyond its range. Without counters nothing is known."""
        self.read, self.ranges = read, ranges
        self.spent: float | None = 0.0 if ranges else None
        self.last = self._read()

    def look(self) -> float | None:
        """The joules so far."""
        now = self._read()
        if self.spent is not None:
            self.spent += sum((new - old) % span for new, old, span in zip(now, self.last, self.ranges, strict=True))
        self.last = now
        return self.spent

    def _read(self) -> list[float]:
        try:
            return self.read()
        except (OSError, ValueError):
            self.spent = None
            return []


class Meter:
    """Measures what this process takes from now on; nothing where it is one of several that train together."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.earlier = device, Usage(0, 0.0, 0.0)
        self.counters = (of_processor(), of_gpu(device))
        self.looked = time.monotonic()
        forget_peak(device)

    def tick(self) -> None:
        """Look at the counters if it is time; costs nothing else."""
        if time.monotonic() - self.looked > OFTEN:
            self.looked = time.monotonic()
            for counter in self.counters:
                counter.look()

    def go_on_from(self, earlier: Usage) -> None:
        """Count what an earlier process took of the same training, too."""
        self.earlier = earlier

    def usage(self) -> Usage:
        """What was taken so far."""
        if distributed.world() > 1:
            return Usage()
        processor, gpu = (counter.look() for counter in self.counters)
        return together(self.earlier, Usage(peak_memory(self.device), processor, gpu))


def together(first: Usage, second: Usage) -> Usage:
    """What two parts of a training took; of what was not measured of both, nothing is known."""

    def joined(name: str, join: Callable[[list], Any]) -> Any:
        values = [getattr(each, name) for each in (first, second)]
        return None if None in values else join(values)

    energies = (joined(name, sum) for name in ("processor_joules", "gpu_joules"))
    return Usage(joined("peak_memory_bytes", max), *energies)


# energy


def of_processor(root: Path = POWERCAP) -> Joules:
    """The packages of the processors, by RAPL."""
    packages = [path for path in sorted(root.glob("intel-rapl:*")) if path.name.count(":") == 1 and named_package(path)]
    try:
        ranges = [microjoules(path / "max_energy_range_uj") for path in packages]
    except (OSError, ValueError):
        ranges = []
    return Joules(lambda: [microjoules(path / "energy_uj") for path in packages], ranges)


def named_package(path: Path) -> bool:
    """Whether a domain is a package; psys, the whole machine, would count packages twice."""
    with contextlib.suppress(OSError):
        return (path / "name").read_text().startswith("package")
    return False


def microjoules(path: Path) -> float:
    """The joules in a file."""
    return int(path.read_text()) / 1e6


def of_gpu(device: torch.device) -> Joules:
    """The GPU that trains, by NVML, if that counts energy (from Volta on); of a part of one (MIG) it tells nothing."""
    nothing = Joules(list, [])
    if device.type != "cuda":
        return nothing
    try:
        import pynvml  # late: where a pack runs there may be none
    except ImportError:
        return nothing
    try:
        pynvml.nvmlInit()
        name = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
        handle = pynvml.nvmlDeviceGetHandleByUUID(name)
    except pynvml.NVMLError:
        return nothing
    return Joules(lambda: [millijoules(pynvml, handle)], [float("inf")])


def millijoules(pynvml: Any, handle: Any) -> float:
    """The joules that a GPU took since its driver was loaded; raises OSError where it does not count them."""
    try:
        return pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3
    except pynvml.NVMLError as error:
        raise OSError(str(error)) from None


# memory


def forget_peak(device: torch.device) -> None:
    """Have the peak be that from now on, where that can be had."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with contextlib.suppress(OSError):
        (PROCESS / "clear_refs").write_text("5")  # man 5 proc: resets VmHWM


def peak_memory(device: torch.device) -> int | None:
    """The most bytes that tensors had on the GPU, or that this process had in memory; None on other devices."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if device.type != "cpu":
        return None
    with contextlib.suppress(OSError):
        lines = (PROCESS / "status").read_text().splitlines()
        return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), None)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
