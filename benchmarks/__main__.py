"""All rows that this machine can measure, as a table: `python -m benchmarks`, or `make bench`."""

import os
import platform
import sys
from datetime import UTC, datetime
from importlib.metadata import version

from benchmarks import bench, feeding, stepping


def main() -> None:
    found = []
    for rows in (feeding.rows, stepping.rows):
        for row in rows():
            print(f"{row.what}: {row.ratio:.2f} ({row.target})", file=sys.stderr, flush=True)
            found.append(row)
    from pipeline import engine

    processor = engine.capabilities().get("cpu_name") or platform.machine()
    print(bench.table(found))
    print(
        f"{datetime.now(UTC):%Y-%m-%d}, {processor}, {os.cpu_count()} cores; torch {version('torch')}, torchvision"
        f" {version('torchvision')}. Medians of {bench.ROUNDS} rounds, both sides in turn; in brackets the range."
    )


if __name__ == "__main__":
    main()
