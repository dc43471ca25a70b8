"""DVC says what runs and what fails, and not what it had no need to do."""

import logging
from pathlib import Path

import dvc
import pytest

from pipeline.base import git, terse

STAGES = """
stages:
  good:
    cmd: echo made > made
    outs: [made]
  bad:
    cmd: echo why >&2; false
    deps: [made]
"""
CONFIG = "[core]\n    no_scm = true\n    analytics = false\n"


def test_dvc_has_the_lines_that_are_left_out() -> None:
    """Where a later one words them otherwise, they would be back."""
    places = ("stage/__init__.py", "stage/cache.py", "dvcfile.py", "commands/repro.py")
    code = "\n".join((Path(dvc.__file__).parent / place).read_text(encoding="utf-8") for place in places)
    for line in (*terse.NEEDLESS, terse.PUSH):
        assert f'"{line}"' in code or not line


@pytest.mark.parametrize(("level", "kept"), [(logging.INFO, False), (logging.WARNING, True), (logging.ERROR, True)])
def test_no_warning_or_error_is_left_out_whatever_it_says(level: int, kept: bool) -> None:
    for line in terse.NEEDLESS:
        assert terse.needed(logging.LogRecord("dvc", level, "", 0, line, ("a",), None)) is kept
    assert terse.needed(logging.LogRecord("dvc", logging.INFO, "", 0, "Running stage '%s':", ("a",), None))


def test_what_runs_and_what_fails_is_said(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """And how to send results to a remote storage where there is one."""
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text(CONFIG)
    (tmp_path / "dvc.yaml").write_text(STAGES)
    assert not git.dvc(tmp_path, "repro", "bad")
    said, errors = capfd.readouterr()
    assert [line for line in said.splitlines() if line] == [
        *("Running stage 'good':", "> echo made > made"),
        *("Running stage 'bad':", "> echo why >&2; false"),
    ]
    assert "why\n" in errors
    assert "ERROR: failed to reproduce 'bad'" in errors

    (tmp_path / ".dvc/config").write_text(f'{CONFIG}[remote "store"]\n    url = {tmp_path / "store"}\n')
    assert git.dvc(tmp_path, "repro", "--force", "good")
    assert terse.PUSH in capfd.readouterr().out
