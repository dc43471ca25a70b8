"""A file is compiled where there is a compiler, also by several machines at once that share a checkout."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pipeline.base import files, native

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VERSUS_HOME", str(tmp_path))
    (path := tmp_path / "answer.c").write_text("int answer(void) { return 42; }")
    return path


def test_another_machine_that_compiles_too_takes_nothing_away(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second begins while the first compiles, and knows none of the first's processes."""
    real, commands = subprocess.run, []

    def run(command: list[str], **options: Any) -> Any:
        commands.append(command)
        done = real(command, **options)
        if len(commands) == 1:
            monkeypatch.setattr(files, "running", lambda _: False)
            assert native.compiled(source).answer() == 42
        return done

    monkeypatch.setattr(native.subprocess, "run", run)
    assert native.compiled(source).answer() == 42
    assert len(commands) == 2
    assert [path.suffix for path in (source.parent / ".versus/native").iterdir()] == [".so"]


def test_a_compiler_that_fails_does_not_matter_where_another_process_has_made_the_file(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = subprocess.run

    def fails(command: list[str], **_: Any) -> Any:
        monkeypatch.setattr(native.subprocess, "run", real)
        native.compiled(source)
        raise subprocess.CalledProcessError(1, command)

    monkeypatch.setattr(native.subprocess, "run", fails)
    assert native.compiled(source).answer() == 42
