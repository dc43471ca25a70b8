"""Fixtures that several files share, and the order of the files."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import small_study

os.environ["DVC_NO_ANALYTICS"] = "1"  # as repo.user has it

SLOWEST = (  # these first, so that no worker is left with a long file at the end: a file is one worker's
    *("test_study", "test_rafdb_study", "test_benchmarks", "test_launch", "test_torture", "test_distributed"),
    *("test_runs", "test_report", "test_source", "test_hostile", "test_extending", "test_ui", "test_page"),
    *("test_verify", "test_pretrained", "test_layout", "test_doctor", "test_prune", "test_fit", "test_champion"),
    *("test_anywhere", "test_crew"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {name: index for index, name in enumerate(SLOWEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(place)))


@pytest.fixture(scope="session")
def trained_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study with trained and evaluated models; nobody writes into it."""
    return small_study.run(tmp_path_factory.mktemp("study"))


@pytest.fixture
def trained_study(trained_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, with its folder as the current one."""
    monkeypatch.chdir(trained_folder)
    return trained_folder


@pytest.fixture
def nobody_folder() -> Iterator[Path]:
    """A folder of one who may not read everything: where root runs the tests, they are nobody meanwhile."""
    with tempfile.TemporaryDirectory() as folder:
        if os.geteuid() != 0:
            yield Path(folder)
            return
        os.chown(folder, 65534, 65534)
        os.seteuid(65534)
        try:
            yield Path(folder)
        finally:
            os.seteuid(0)
