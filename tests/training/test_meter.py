"""What a training takes of its machine is what the machine's counters say; what they do not say was not measured."""

import contextlib
import mmap
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from pipeline.records.diary import Usage
from pipeline.training import meter
from pipeline.training.meter import Meter, of_gpu, of_processor, peak_memory, together

CPU = torch.device("cpu")


def domain(root: Path, number: str, name: str, energy: int, span: int = 1000) -> Path:
    """A domain of RAPL, as Linux shows it; energies in joules."""
    folder = root / f"intel-rapl:{number}"
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{name}\n")
    (folder / "max_energy_range_uj").write_text(f"{span * 1_000_000}\n")
    rise(folder, energy)
    return folder


def rise(folder: Path, energy: int) -> None:
    (folder / "energy_uj").write_text(f"{energy * 1_000_000}\n")


def test_the_packages_energy_is_added_up_and_their_parts_are_not_counted_twice(tmp_path: Path) -> None:
    first, second = domain(tmp_path, "0", "package-0", 100), domain(tmp_path, "1", "package-1", 900)
    others = [domain(tmp_path, "0:0", "core", 50), domain(tmp_path, "2", "psys", 50)]
    counter = of_processor(tmp_path)
    assert counter.look() == 0
    for folder in (first, *others):
        rise(folder, 160)
    rise(second, 950)
    assert counter.look() == pytest.approx(60 + 50)
    rise(second, 30)
    assert counter.look() == pytest.approx(60 + 50 + 80), "a counter begins anew at 0 beyond its range"


def test_what_may_not_be_read_was_not_measured(tmp_path: Path) -> None:
    assert of_processor(tmp_path / "none").look() is None
    folder = domain(tmp_path, "0", "package-0", 100)
    counter = of_processor(tmp_path)
    (folder / "energy_uj").unlink()
    assert counter.look() is None
    rise(folder, 200)
    assert counter.look() is None, "nobody knows what it took meanwhile"
    (folder / "energy_uj").write_text("")
    assert of_processor(tmp_path).look() is None


class LibraryError(Exception):
    pass


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A GPU that took so many millijoules, and whose tensors had so many bytes, for those who ask NVML and torch."""
    shown = SimpleNamespace(millijoules=5_000, uuid="11-22")

    def by_name(name: str) -> str:
        if name != "GPU-11-22":
            raise LibraryError("not found")
        return name

    library = SimpleNamespace(
        NVMLError=LibraryError,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=by_name,
        nvmlDeviceGetTotalEnergyConsumption=lambda _: shown.millijoules,
    )
    monkeypatch.setitem(sys.modules, "pynvml", library)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(uuid=shown.uuid))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda _: None)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _: 12_345)
    shown.library = library
    return shown


def test_a_gpu_tells_its_energy_and_the_memory_that_tensors_had(gpu: SimpleNamespace) -> None:
    device = torch.device("cuda")
    found = Meter(device)
    gpu.millijoules = 7_500
    assert found.usage().gpu_joules == pytest.approx(2.5)
    assert found.usage().peak_memory_bytes == 12_345
    gpu.uuid = "a part of a GPU"
    assert of_gpu(device).look() is None
    gpu.uuid = "11-22"

    def refuse(_: str) -> int:
        raise LibraryError("not supported")

    gpu.library.nvmlDeviceGetTotalEnergyConsumption = refuse
    assert of_gpu(device).look() is None


def test_where_there_is_no_library_for_gpus_none_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert of_gpu(torch.device("cuda")).look() is None
    assert of_gpu(CPU).look() is None


@contextlib.contextmanager
def filled(size: int) -> Iterator[None]:
    """So many bytes of memory, which the system has back afterwards, whatever malloc keeps."""
    with mmap.mmap(-1, size) as memory:
        for page in range(0, size, mmap.PAGESIZE):
            memory[page] = 1
        yield


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux forgets a peak")
def test_the_peak_on_a_cpu_is_that_of_the_process_since_the_training_began() -> None:
    with filled(120_000_000):
        before = Meter(CPU).usage().peak_memory_bytes
    found = Meter(CPU)
    small = found.usage().peak_memory_bytes
    with filled(200_000_000):
        pass
    large = found.usage().peak_memory_bytes
    assert before is not None
    assert small is not None
    assert large is not None
    assert large - small == pytest.approx(200_000_000, rel=0.2)
    assert before - small == pytest.approx(120_000_000, rel=0.2), "what there was before is forgotten"
    assert peak_memory(torch.device("mps")) is None


def test_a_training_that_went_on_counts_what_it_took_before() -> None:
    first, second = Usage(500, 10.0, 1.5), Usage(400, 20.0, 0.0)
    assert together(first, second) == Usage(500, 30.0, 1.5)
    assert together(first, Usage(600, None, None)) == Usage(600, None, None)
    found = Meter(CPU)
    found.go_on_from(Usage(10**15, 10.0, None))
    assert found.usage().peak_memory_bytes == 10**15


def test_one_of_several_processes_measures_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meter.distributed, "world", lambda: 2)
    assert Meter(CPU).usage() == Usage()


def test_counters_are_looked_at_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = domain(tmp_path, "0", "package-0", 0, span=100)
    monkeypatch.setattr(meter, "of_processor", lambda: of_processor(tmp_path))
    found = Meter(CPU)
    for energy in (60, 20, 80):
        rise(folder, energy)
        found.tick()
    assert found.usage().processor_joules == pytest.approx(80), "half a minute has not passed: a lap is lost"
    monkeypatch.setattr(meter, "OFTEN", 0.0)
    for energy in (40, 0):
        rise(folder, energy)
        found.tick()
    assert found.usage().processor_joules == pytest.approx(80 + 60 + 60)
