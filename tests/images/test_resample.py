"""Large crops come out the same to the last bit, with a C compiler and without one."""

import ctypes
import mmap
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torchvision.transforms.v2.functional as oracle
from torch import Tensor

from pipeline.base import native
from pipeline.images import resample
from tests import repo

needs_native = pytest.mark.skipif(resample.native() is None, reason="no C compiler, or a CPU without AVX2")
SIZE = 64


def pictures(count: int, side: int = 71) -> Tensor:
    """(N, 3, H, W) uint8, as packed images lie: channels last."""
    rng = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, side - 4, side, 3), dtype=torch.uint8, generator=rng).permute(0, 3, 1, 2)


def boxes_of(images: Tensor, heights: Tensor, widths: Tensor, rng: torch.Generator) -> Tensor:
    rows, columns = images.shape[2:]
    places = torch.rand(2, len(heights), generator=rng)
    top, left = (places[0] * (rows - heights + 1)).long(), (places[1] * (columns - widths + 1)).long()
    return torch.stack([top, left, heights, widths], 1).float()


@needs_native
def test_every_length_of_a_crop_gives_torchs_bytes() -> None:
    """All heights and widths that there are, mirrored and not; also run by hand for 224 pixels."""
    rng, lengths = torch.Generator().manual_seed(1), torch.arange(1, SIZE + 1)
    images = pictures(SIZE)
    for widths in (lengths, lengths.flip(0), lengths[torch.randperm(SIZE, generator=rng)]):
        boxes = boxes_of(images, lengths, widths, rng)
        assert resample.fits(images, boxes, SIZE)
        for flip in (None, torch.rand(SIZE, generator=rng) < 0.5):
            found = resample.crops(images, boxes, SIZE, flip)
            assert torch.equal(found, resample.one_by_one(images, boxes, SIZE, flip))


@needs_native
def test_the_smallest_crops_in_the_last_corner_of_the_narrowest_images_are_torchs() -> None:
    images = narrow(4)
    for boxes in corners(4):
        assert resample.fits(images, boxes, SIZE)
        found = resample.crops(images, boxes, SIZE, torch.tensor([True, False, True, False]))
        wanted = oracle.resized_crop(images[1], *boxes[1].int().tolist(), size=[SIZE, SIZE], antialias=False)
        assert torch.equal(found[1], wanted)
        assert torch.equal(found[0].flip(-1), resample.one_by_one(images, boxes, SIZE, None)[0])


@needs_native
@pytest.mark.skipif(sys.platform != "linux", reason="mprotect as Linux has it")
def test_nothing_is_read_beyond_the_last_image_or_before_the_first() -> None:
    """A page that may not be read lies at either end: who reads there ends with SIGSEGV."""
    code = "from tests.images import test_resample; test_resample.crop_between_forbidden_pages()"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, cwd=repo.ROOT)


def crop_between_forbidden_pages() -> None:
    images = narrow(4)
    content = images.permute(0, 2, 3, 1).numpy().tobytes()
    page = mmap.PAGESIZE
    assert len(content) <= page
    memory = mmap.mmap(-1, 3 * page)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for forbidden in (start, start + 2 * page):
        assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(forbidden), ctypes.c_size_t(page), 0) == 0
    for offset in (page, 2 * page - len(content)):
        memory[offset : offset + len(content)] = content
        held = torch.frombuffer(memory, dtype=torch.uint8, count=len(content), offset=offset)
        held = held.view(4, *images.shape[2:], 3).permute(0, 3, 1, 2)
        for boxes in [*corners(4), *corners(4, last=False)]:
            assert resample.fits(held, boxes, SIZE)
            resample.crops(held, boxes, SIZE, None)


def narrow(count: int) -> Tensor:
    """(N, 3, 6, 6): as narrow as resample.c takes them."""
    images = pictures(count, side=10)[:, :, :, : resample.NARROWEST]
    return images.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)


def corners(count: int, last: bool = True) -> Iterator[Tensor]:
    """Boxes (N, 4) of each size in the last corner of narrow images, or in the first."""
    for length in range(1, 7):
        place = 6 - length if last else 0
        yield torch.tensor([[place, place, length, length]] * count).float()


@pytest.mark.parametrize(
    ("box", "channels", "size"),
    [
        ((0, 0, 65, 20), 3, SIZE),  # made smaller, not larger
        ((-1, 0, 20, 20), 3, SIZE),  # over the border
        ((60, 0, 20, 20), 3, SIZE),
        ((0, 0, 20, 20), 1, SIZE),
        ((0, 0, 20, 20), 3, SIZE + 2),
    ],
)
def test_what_the_fast_way_does_not_know_goes_the_other(box: tuple[int, ...], channels: int, size: int) -> None:
    images = pictures(2)[:, :channels]
    assert not resample.fits(images, torch.tensor([box, box]).float(), size)


# Without a compiler


@pytest.fixture
def anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A checkout in which nothing is compiled yet."""
    monkeypatch.setenv("VERSUS_HOME", str(tmp_path))
    resample.native.cache_clear()
    yield tmp_path / ".versus/native"
    resample.native.cache_clear()


def refuse(*_: object, **__: object) -> None:
    raise subprocess.CalledProcessError(1, "cc")


@pytest.mark.usefixtures("anew")
@pytest.mark.parametrize("fault", ["none", "refuses", "rubbish"])
def test_without_a_working_compiler_torch_does_it(monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    images, box = pictures(2), torch.tensor([[3.0, 5, 20, 30]]).expand(2, 4)
    if fault == "none":
        monkeypatch.setattr(native.shutil, "which", lambda _: None)
    elif fault == "refuses":
        monkeypatch.setattr(native.subprocess, "run", refuse)
    else:
        monkeypatch.setattr(native.subprocess, "run", lambda command, **_: Path(command[-2]).write_bytes(b"rubbish"))
    assert resample.native() is None
    assert torch.equal(resample.crops(images, box, SIZE, None), resample.one_by_one(images, box, SIZE, None))


@needs_native
def test_a_file_is_compiled_once(anew: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert native.library(resample.SOURCE)
    assert [path.suffix for path in anew.iterdir()] == [".so"]
    monkeypatch.setattr(native.subprocess, "run", refuse)
    assert native.library(resample.SOURCE)
