"""Rows that this machine can measure, as a table: `python -m benchmarks [NAME...]`; all of them by `make bench`."""

import importlib
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version

from benchmarks import bench

NAMES = (
    "noop",
    "starting",
    "preparing",
    "recording",
    "feeding",
    "stepping",
    "plain",
    "replicates",
    "evaluating",
)


def main(names: Sequence[str] = tuple(sys.argv[1:]) or NAMES) -> None:
    found = []
    for name in names:
        begun = time.monotonic()
        for row in importlib.import_module(f"benchmarks.{name}").rows():
            print(f"{row.what}: {row.ratio:.3g} ({row.target}) {row.note}", file=sys.stderr, flush=True)
            found.append(row)
        print(f"{name}: {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
    from pipeline.inference import device

    machine = device.processor()
    if "gpu" in names:
        from torch.cuda import get_device_name

        machine = f"{get_device_name()} with {machine}"
    print(bench.table(found))
    how = f"Medians of {bench.ROUNDS} rounds, both sides in turn; in brackets the range."
    print(
        f"{datetime.now(UTC):%Y-%m-%d}, {machine}; torch {version('torch')}, torchvision {version('torchvision')}."
        f" {bench.few(how, 'A short run: these are no measurements.')}"
    )


if __name__ == "__main__":
    main()
