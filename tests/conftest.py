"""Fixtures that several files share."""

from pathlib import Path

import pytest

from tests import small_study


@pytest.fixture(scope="session")
def trained_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study with trained and evaluated models; nobody writes into it."""
    return small_study.run(tmp_path_factory.mktemp("study"))


@pytest.fixture
def trained_study(trained_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, with its folder as the current one."""
    monkeypatch.chdir(trained_folder)
    return trained_folder
