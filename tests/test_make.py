"""Every command of the Makefile is run: in a short form by a test, or by what decides whether a change lands."""

import re
import shutil
from pathlib import Path

import pytest

from tests import repo, walk

RULES = (repo.ROOT / "Makefile").read_text()
COMMANDS = re.findall(r"^([a-z-]+):.*## ", RULES, re.MULTILINE)
LANDING = ".ci/run"  # runs the command itself, or one that needs it
PAGE = "README.md"  # its commands are run by `make walk`, which LANDING runs
RUN = {  # command -> what runs it
    "help": "tests/test_make.py::test_help_lists_every_command",
    "setup": LANDING,
    "repro": PAGE,
    "verify": "tests/test_make.py::test_verify_says_what_it_lacks",
    "ui": "tests/test_ui.py::test_make_ui_answers",
    "lint": LANDING,
    "test": LANDING,
    "walk": "tests/test_make.py::test_walk_makes_the_clone_that_it_follows_pages_in",
    "torture": "tests/test_torture.py::test_killed_at_random_moments_the_pipeline_ends_where_it_would_have_ended",
    "bench": "tests/test_benchmarks.py::test_make_bench_measures_its_rows",
    "bench-gpu": "tests/test_benchmarks.py::test_make_bench_gpu_measures_or_says_in_one_line_what_it_needs",
    "docs": "tests/test_docs.py::test_the_site_builds_without_a_warning_and_can_be_searched",
    "cluster-test": "tests/test_make.py::test_cluster_test_finds_its_tests",
    "format": "tests/test_make.py::test_format_mends_what_it_can",
}


def test_every_command_is_run_by_something() -> None:
    assert sorted(RUN) == sorted(COMMANDS), "a command of the Makefile needs a test, named here"


@pytest.mark.parametrize("command", [command for command in RUN if "::" in RUN[command]])
def test_what_is_said_to_run_a_command_does(command: str) -> None:
    path, _, name = RUN[command].partition("::")
    text = (repo.ROOT / path).read_text()
    assert f"\ndef {name}(" in text
    assert re.search(rf'repo\.make\([^)]*"{command}"', text), f"{path} does not run make {command}"


def test_what_is_run_before_a_change_lands() -> None:
    script = (repo.ROOT / LANDING).read_text()
    assert re.findall(r"\bmake ([a-z-]+)", script)[0] == "test"
    assert "make walk" in script
    needs = dict(re.findall(r"^(\S+):\s*(\S*)", RULES.replace("$(READY)", "setup"), re.MULTILINE))
    assert (needs["test"], needs["lint"]) == ("lint", "setup")
    assert {command for command in RUN if RUN[command] == LANDING} == {"setup", "lint", "test"}
    assert {command for command in RUN if RUN[command] == PAGE} == {"repro"}
    assert any(line.split()[:2] == ["make", "repro"] for line in walk.commands(repo.ROOT / PAGE))


def test_help_lists_every_command() -> None:
    listed = re.findall(r"^make (\S+) +\S", repo.make("help"), re.MULTILINE)
    assert listed == COMMANDS
    assert repo.make().startswith("make help"), "which is what make alone does"


def test_verify_says_what_it_lacks(tmp_path: Path) -> None:
    repo.call(tmp_path, "git", "init", "--quiet")
    repo.commit(tmp_path)
    said = repo.make("verify", "TOLERANCE=0.02", folder=tmp_path, fails=True)
    assert "versus verify --tolerance 0.02" in said
    assert "no results are committed; `dvc repro`, then `git add`" in said
    assert "Traceback" not in said


def test_walk_makes_the_clone_that_it_follows_pages_in() -> None:
    said = repo.make("walk", "PAGES=README.md docs/index.md", "LIMIT=0")
    assert said.splitlines()[-2:] == ["README.md: no time is left", "docs/index.md: no time is left"]


def test_cluster_test_finds_its_tests() -> None:
    """Its packages are not installed here, nor are the servers started."""
    install, run = repo.make("--dry-run", "cluster-test").splitlines()
    assert "pip install" in install
    marked = [path for path in repo.ROOT.glob("tests/**/test_*.py") if "\n@pytest.mark.cluster\n" in path.read_text()]
    said = repo.call(
        repo.ROOT, "bash", "-c", run, PYTEST_ADDOPTS=f"--collect-only --quiet {' '.join(map(str, marked))}"
    )
    assert {path.name for path in marked} == set(re.findall(r"(test_\w+\.py)::", said))


def test_format_mends_what_it_can(tmp_path: Path) -> None:
    shutil.copy(repo.ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "mine.py").write_text("import os,sys\nprint( sys )\n")
    repo.make("format", folder=tmp_path)
    assert (tmp_path / "mine.py").read_text() == "import sys\n\nprint(sys)\n"
