"""A few kills of a real `dvc repro` at random moments; `make torture` does hundreds."""

import random
from collections import Counter
from pathlib import Path

from tests import torture

KILLS = 3


def test_killed_at_random_moments_the_pipeline_ends_where_it_would_have_ended(tmp_path: Path) -> None:
    found: Counter = Counter()
    folder = torture.study(tmp_path)
    reference, seconds = torture.uninterrupted(folder, found)
    torture.fresh(folder)
    torture.cycle(folder, random.Random(7), KILLS, seconds / 2, found)
    torture.check(folder, reference, cycles=2)
    assert found["kills"] > 0
