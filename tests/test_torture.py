"""A few kills of a real `dvc repro` at random moments; `make torture` does hundreds."""

import json
import os
import signal
import time
from pathlib import Path

from tests import repo

KILLS = 3


def test_killed_at_random_moments_the_pipeline_ends_where_it_would_have_ended(tmp_path: Path) -> None:
    result = tmp_path / "torture.json"
    repo.make("torture", f"KILLS={KILLS}", "SEED=7", AT_ONCE="0", TARGETS="evaluate@tiny-0", RESULT=str(result))
    found = json.loads(result.read_text())
    assert (found["kills"], found["ended"]) == (KILLS, "all kills done")
    assert sum(found["where"].values()) >= KILLS


def test_a_command_is_over_when_it_ends_not_when_what_it_left_running_does(tmp_path: Path) -> None:
    """As DVC's workers after `dvc queue start`: an experiment beside them would have waited for their end."""
    began = time.monotonic()
    left = repo.call(tmp_path, "bash", "-c", "sleep 60 & echo $!")
    os.kill(int(left), signal.SIGKILL)
    assert time.monotonic() - began < 30
