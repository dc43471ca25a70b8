"""Outputs appear whole or not at all, faults end in one line, and a result knows the code that made it."""

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pipeline.base import errors, files, places
from pipeline.base.errors import StageError
from pipeline.base.process import run

ROOT = Path(__file__).parents[2]


def listing(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


# Whole outputs


def test_a_file_appears_under_its_name_when_the_block_is_done(tmp_path: Path) -> None:
    path = tmp_path / "new" / "table.csv"
    with files.written_whole(path) as partial:
        partial.write_text("a,b\n")
        assert not path.exists()
        assert partial.parent == path.parent, "the rename must not cross file systems"
    assert path.read_text() == "a,b\n"
    assert listing(tmp_path) == ["new", "new/table.csv"]


def test_an_old_file_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("old")
    with files.written_whole(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def test_a_folder_is_replaced_as_one(tmp_path: Path) -> None:
    path = tmp_path / "data"
    (path / "inner").mkdir(parents=True)
    (path / "inner" / "stale").touch()
    with files.written_whole(path) as partial:
        partial.mkdir()
        (partial / "fresh").touch()
    assert listing(tmp_path) == ["data", "data/fresh"]


@pytest.mark.parametrize("error", [StageError("no"), ValueError("no"), KeyboardInterrupt(), SystemExit(1)], ids=repr)
@pytest.mark.parametrize("folder", [False, True], ids=["file", "folder"])
def test_a_block_that_fails_leaves_what_was_there_and_no_litter(
    tmp_path: Path, folder: bool, error: BaseException
) -> None:
    path = tmp_path / "out"
    if folder:
        path.mkdir()
        (path / "old").touch()
    else:
        path.write_text("old")
    before = listing(tmp_path)

    def fail() -> None:
        with files.written_whole(path) as partial:
            if folder:
                partial.mkdir()
                (partial / "half").touch()
            else:
                partial.write_text("half")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert listing(tmp_path) == before
    assert folder or path.read_text() == "old"


def test_a_block_that_fails_before_it_writes_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="early"), files.written_whole(tmp_path / "out"):
        raise StageError("early")
    assert listing(tmp_path) == []


def test_a_link_is_replaced_and_its_target_stays(tmp_path: Path) -> None:
    """DVC may check outputs out as links into its cache."""
    cache, link = tmp_path / "cache", tmp_path / "out"
    cache.mkdir()
    (cache / "kept").touch()
    link.symlink_to(cache)
    with files.written_whole(link) as partial:
        partial.mkdir()
    assert not link.is_symlink()
    assert (cache / "kept").exists()


def test_json_is_written_to_be_read_by_people_too(tmp_path: Path) -> None:
    files.write_json(tmp_path / "info.json", {"title": "Müller", "values": [1, None]})
    text = (tmp_path / "info.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"title": "Müller", "values": [1, None]}
    assert "Müller" in text
    assert text.endswith("}\n")


# Faults


def test_a_fault_is_one_line_on_stderr_and_exit_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        raise StageError("data/raw: not found; run `dvc repro`")

    with pytest.raises(SystemExit) as leaving:
        run(main)
    assert leaving.value.code == 1
    assert capsys.readouterr() == ("", "versus: data/raw: not found; run `dvc repro`\n")


def test_a_stage_that_succeeds_says_nothing_more(capsys: pytest.CaptureFixture[str]) -> None:
    run(lambda: print("done"))
    assert capsys.readouterr() == ("done\n", "")


def test_a_fault_of_ours_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        run(lambda: 1 / 0)  # type: ignore[arg-type, return-value]


def test_a_fault_shows_where_it_comes_from_where_that_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    def main() -> None:
        raise errors.StageError("no images")

    monkeypatch.setenv("VERSUS_DEBUG", "1")
    with pytest.raises(errors.StageError, match="no images"):
        run(main)


# Where the code came from


def git(*arguments: str, cwd: Path) -> str:
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main"]
    return subprocess.run(["git", *identity, *arguments], cwd=cwd, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """pipeline/base/git.py in a checkout of its own, beside a file that is not code."""
    for key in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(key, raising=False)
    base = tmp_path / "checkout" / "pipeline" / "base"
    base.mkdir(parents=True)
    shutil.copy(ROOT / "pipeline/base/git.py", base)
    (tmp_path / "checkout" / "params.yaml").write_text("a: 1\n")
    spec = importlib.util.spec_from_file_location("copied", base / "git.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    shutil.rmtree(base / "__pycache__", ignore_errors=True)
    return module


def test_the_commit_is_that_of_the_code_marked_where_the_code_differs(copied: ModuleType) -> None:
    package = Path(copied.__file__).parents[1]
    root = package.parent
    git("init", cwd=root)
    git("add", ".", cwd=root)
    git("commit", "-m", "First", cwd=root)
    head = git("rev-parse", "HEAD", cwd=root).strip()
    assert copied.commit() == head
    (root / "params.yaml").write_text("a: 2\n")
    assert copied.commit() == head, "settings are recorded apart; only the code counts"
    (package / "new.py").touch()
    assert copied.commit() == f"{head}-dirty"
    (package / "new.py").unlink()
    with (package / "base/git.py").open("a") as file:
        file.write("# changed\n")
    assert copied.commit() == f"{head}-dirty"


def test_what_is_not_committed_is_a_patch_that_makes_it_again(copied: ModuleType) -> None:
    root = Path(copied.__file__).parents[2]
    for command in (("init",), ("add", "."), ("commit", "-m", "First")):
        git(*command, cwd=root)
    assert copied.uncommitted() == ""
    (root / "pipeline/new.py").write_text("a = 1\n")
    with (root / "pipeline/base/git.py").open("a") as file:
        file.write("# changed\n")
    changed = (root / "pipeline/base/git.py").read_text()
    patch = copied.uncommitted()
    git("checkout", "--", ".", cwd=root)
    (root / "pipeline/new.py").unlink()
    subprocess.run(["git", "apply"], cwd=root, input=patch, text=True, check=True)
    assert (root / "pipeline/base/git.py").read_text() == changed
    assert list((root / "pipeline").glob("new.py")) or list(root.rglob("new.py"))


def test_outside_git_there_is_no_commit(copied: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(Path(copied.__file__).parents[3]))
    assert copied.commit() == ""
    monkeypatch.setenv("PATH", "")
    assert copied.commit() == ""


# Where a stage runs


def test_a_study_is_named_by_its_folder_and_the_root_is_digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "studies" / "rafdb").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "studies" / "rafdb")
    assert places.study() == "rafdb"
    monkeypatch.chdir(tmp_path)
    assert places.study() == "digits"
    (tmp_path / "studies/digits").mkdir()
    monkeypatch.chdir(tmp_path / "studies/digits")
    with pytest.raises(StageError, match="digits is the default study's name"):
        places.study()
    monkeypatch.setenv("VERSUS_CARRIED", str(tmp_path))
    assert places.study() == "digits", "a pack has it there"


@pytest.mark.parametrize("name", ["a:b", "a?b", "a%20b", "..a", "a\nb", "a\x1b[31mb", "\u202ea", "a\tb"])
def test_a_study_that_no_registry_takes_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "studies" / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "studies" / name)
    with pytest.raises(StageError, match=r"a study's name may have no : .* rename the folder") as error:
        places.study()
    assert str(error.value).isprintable()


@pytest.mark.parametrize("name", ["don't", 'a"b', "a b", "100%", "a#b", "[x]", "größe", "-rf", "a;b", "猫"])
def test_a_study_may_be_called_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (tmp_path / "studies" / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "studies" / name)
    assert places.study() == name


def test_the_checkout_is_the_nearest_folder_with_dvc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = tmp_path / "studies" / "rafdb"
    study.mkdir(parents=True)
    (tmp_path / ".dvc").mkdir()
    for folder in (tmp_path, study):
        monkeypatch.chdir(folder)
        assert places.checkout() == tmp_path


def test_an_experiments_copy_leads_back_to_the_users_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DVC_ROOT", raising=False)
    home = Path("/home/user/versus")
    assert places.original(home / ".dvc" / "tmp" / "exps" / "abc123") == home
    assert places.original(home) == home


# Ends that nobody chose


def process(folder: Path, code: str, **options: Any) -> subprocess.Popen:
    """Python with `code` as a stage's main, whatever signals the tests were started to ignore."""
    head = "import signal, sys, time\nfrom pathlib import Path\nfrom pipeline.base import files, process\n"
    head += "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    return subprocess.Popen(
        [sys.executable, "-c", f"{head}{code}"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


SLOW = """
def main():
    with files.written_whole(Path('out')) as partial:
        partial.write_text('half')
        print('begun', flush=True)
        time.sleep(60)
process.run(main)
"""


@pytest.mark.parametrize(
    ("number", "status", "word"), [(signal.SIGTERM, 143, "terminated"), (signal.SIGINT, 130, "interrupted")]
)
def test_sigterm_and_ctrl_c_end_a_stage_in_one_line_with_nothing_half_written(
    tmp_path: Path, number: int, status: int, word: str
) -> None:
    (tmp_path / ".dvc").mkdir()
    (tmp_path / "out").write_text("old")
    slow = process(tmp_path, SLOW)
    assert slow.stdout is not None
    assert slow.stdout.readline() == "begun\n"
    slow.send_signal(number)
    _, said = slow.communicate(timeout=30)
    assert slow.returncode == status
    assert said == f"versus: {word}; nothing was left half-written, `dvc repro` goes on from what was finished\n"
    assert (tmp_path / "out").read_text() == "old"
    assert not list(tmp_path.rglob("*.part"))


def test_a_stage_that_lost_its_dvc_is_waited_for_by_the_same_stage_started_anew(tmp_path: Path) -> None:
    (tmp_path / ".dvc").mkdir()
    first = process(tmp_path, SLOW)
    assert first.stdout is not None
    assert first.stdout.readline() == "begun\n"
    second = process(tmp_path, "process.run(lambda: print('mine'))")
    assert second.stderr is not None
    assert second.stderr.readline() == "versus: the same stage runs in another process; waiting\n"
    assert second.poll() is None
    first.kill()
    first.communicate()
    assert second.communicate(timeout=30)[0] == "mine\n"
    with files.written_whole(tmp_path / "out"):
        assert not [path for path in tmp_path.glob(".out.*") if str(first.pid) in path.name]
        (tmp_path / f".out.{os.getpid()}.part").touch()


@pytest.mark.parametrize(
    "write",
    [
        "partial.write_bytes(bytes(10**6))",
        "import numpy; numpy.save(partial.open('wb'), numpy.zeros(10**6))",
        "import torch; torch.save(torch.zeros(10**6), partial)",
        "import torch, safetensors.torch; safetensors.torch.save_file({'w': torch.zeros(10**6)}, partial)",
    ],
    ids=["python", "numpy", "torch", "safetensors"],
)
def test_a_full_disk_ends_a_stage_in_one_line_and_the_old_output_stays(tmp_path: Path, write: str) -> None:
    (tmp_path / ".dvc").mkdir()
    (tmp_path / "out").write_text("old")
    code = f"""
import resource
def main():
    with files.written_whole(Path('out')) as partial:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, -1))
        {write}
process.run(main)
"""
    full = process(tmp_path, code)
    _, said = full.communicate(timeout=60)
    assert full.returncode == 1, said
    assert said.startswith("versus: the disk is full (")
    assert said.count("\n") == 1
    assert (tmp_path / "out").read_text() == "old"
    assert not list(tmp_path.rglob("*.part"))


def test_a_read_only_checkout_ends_a_stage_in_one_line(tmp_path: Path) -> None:
    (tmp_path / ".dvc").mkdir()
    code = "from pipeline.base import process; process.run(lambda: None)"
    mount = f"mount --bind {tmp_path} {tmp_path} && mount -o remount,ro,bind {tmp_path} && cd {tmp_path} &&"
    command = ["unshare", "--mount", "sh", "-c", f"{mount} exec {sys.executable} -c '{code}'"]
    if os.getuid():
        tmp_path.chmod(0o555)
        command = [sys.executable, "-c", code]
    elif subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode:
        pytest.skip("root may write everywhere, and may mount nothing here")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    tmp_path.chmod(0o755)
    assert done.returncode == 1
    assert done.stderr.startswith(f"versus: {tmp_path}/.versus")
    assert done.stderr.endswith("or work in a copy of the checkout, and run `dvc repro` again\n")
    assert done.stderr.count("\n") == 1


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path: Path) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    mine = tmp_path / ".out.json.1.part"  # process 1 lives as long as the machine
    stale, other = tmp_path / f".out.json.{gone.pid}.part", tmp_path / f".in.json.{gone.pid}.part"
    for path in (mine, stale, other):
        path.touch()
    with files.written_whole(tmp_path / "out.json") as partial:
        partial.touch()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([mine.name, other.name, "out.json"])


# Names from elsewhere


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("größe 猫.png", "größe 猫.png"),
        ("a\nb\t\x1b[31m\x9b", r"a\nb\t\x1b[31m\x9b"),
        ("\u202egnp.exe\u2028", r"\u202egnp.exe\u2028"),
        ("\udcff.png", r"\udcff.png"),
        ("a" * 500 + ".png", "a" * 80 + "..." + "a" * 76 + ".png"),
    ],
)
def test_a_name_is_shown_on_one_line_without_what_a_terminal_obeys(name: str, said: str) -> None:
    assert errors.shown(name) == said
