"""environment.py: uv gets what pip's settings say, and pip installs where uv cannot."""

import importlib.metadata
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import environment
from tests import repo

OLDEST = "3.11.0"


@pytest.fixture
def pip_conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of settings, the only ones that pip has."""
    for name in ("FIND_LINKS", "CERT", "DEFAULT_TIMEOUT", "INDEX_URL", "EXTRA_INDEX_URL", "NO_INDEX"):
        monkeypatch.delenv(f"PIP_{name}", raising=False)
    path = tmp_path / "pip.conf"
    monkeypatch.setenv("PIP_CONFIG_FILE", str(path))
    monkeypatch.setenv("HOME", str(tmp_path))
    return path


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], Mapping[str, str]]]:
    """The commands that would be called, the first of which fails."""
    found: list[tuple[list[str], Mapping[str, str]]] = []

    def call(command: list[str], variables: Mapping[str, str]) -> int:
        found.append((command, variables))
        return int(len(found) == 1)

    monkeypatch.setattr(environment, "call", call)
    monkeypatch.setattr(environment, "found", lambda: "uv")
    return found


def test_uv_looks_where_pip_does(pip_conf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pip itself says what its settings are: a variable before a file, [install] before [global]."""
    pip_conf.write_text(
        "[global]\nindex-url = https://mine/simple\nfind-links = /global\nextra-index-url =\n  https://a\n  https://b\n"
        "[install]\nfind-links = /one /two\n"
    )
    monkeypatch.setenv("PIP_INDEX_URL", "https://yours/simple")
    assert (
        environment.for_uv(environment.pip_settings()).items()
        >= {
            "UV_INDEX_URL": "https://yours/simple",
            "UV_FIND_LINKS": "/one,/two",
            "UV_EXTRA_INDEX_URL": "https://a https://b",
            "UV_INDEX_STRATEGY": "unsafe-best-match",
        }.items()
    )


def test_pip_installs_where_uv_fails(
    pip_conf: Path, calls: list[tuple[list[str], Mapping[str, str]]], capfd: pytest.CaptureFixture[str]
) -> None:
    pip_conf.write_text("[global]\nno-index = true\n")
    assert environment.installed(["dev"]) == 0
    (by_uv, variables), (by_pip, _) = calls
    assert by_uv[:3] == ["uv", "pip", "install"]
    assert variables["UV_NO_INDEX"] == "true"
    assert by_pip[:3] == [sys.executable, "-m", "pip"]
    assert by_uv[-3:] == by_pip[-3:] == ["constraints.txt", "--editable", ".[dev]"]
    assert capfd.readouterr().err == "versus: uv failed; installing by pip, which takes minutes\n"


def test_a_setting_that_uv_lacks_is_left_to_pip(
    pip_conf: Path, calls: list[tuple[list[str], Mapping[str, str]]], capfd: pytest.CaptureFixture[str]
) -> None:
    pip_conf.write_text("[install]\nonly-binary = :all:\n")
    environment.installed([])
    assert [command[:3] for command, _ in calls] == [[sys.executable, "-m", "pip"]]
    assert "uv has no counterpart of pip's setting only-binary; installing by pip" in capfd.readouterr().err


def test_every_pin_that_is_installed_allows_the_oldest_python() -> None:
    """Of what another Python or system needs, see CONTRIBUTING.md."""
    pins = [Requirement(line) for line in (repo.ROOT / "constraints.txt").read_text().splitlines()[1:]]
    refused = []
    for pin in pins:
        try:
            about = importlib.metadata.distribution(pin.name)
        except importlib.metadata.PackageNotFoundError:
            continue
        needs = SpecifierSet(about.metadata.get("Requires-Python") or "")
        if about.version in pin.specifier and OLDEST not in needs:
            refused.append(f"{pin} needs Python {needs}")
    assert not refused
