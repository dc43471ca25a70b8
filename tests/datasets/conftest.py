"""Real images, where there are any."""

import os
from pathlib import Path

import pytest


@pytest.fixture
def provided() -> Path:
    """The folder of real archives; without it the test is skipped."""
    if "VERSUS_DATASETS" not in os.environ:
        pytest.skip("VERSUS_DATASETS is not set: no real images to test on")
    return Path(os.environ["VERSUS_DATASETS"])
