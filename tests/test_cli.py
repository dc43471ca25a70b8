"""`versus`: every command explains itself at once, faults are one line, and the texts name commands that exist."""

import errno
import importlib
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline import cli
from pipeline.base import git
from pipeline.base.errors import StageError, Terminated
from pipeline.commands import NAMES
from tests import small_study

ROOT = Path(__file__).parents[1]


def versus(*arguments: str) -> int:
    """Its exit status."""
    try:
        cli.main(arguments)
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def helped(capsys: pytest.CaptureFixture[str], *command: str) -> str:
    assert versus(*command, "--help") == 0
    return capsys.readouterr().out


# Help


def test_versus_is_the_command_that_the_package_installs() -> None:
    module, name = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]["versus"].split(":")
    assert getattr(importlib.import_module(module), name) is cli.main


def test_a_command_that_is_none_is_one_line_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert versus("predikt", "photo.jpg") == 2
    said = capsys.readouterr().err
    assert said == "versus: no command 'predikt'; did you mean predict? `versus --help` lists them\n"


@pytest.mark.parametrize("changed", ["", "-dirty"])
def test_the_version_is_the_packages_and_the_commits(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    monkeypatch.setattr(git, "commit", lambda: "0123456789abcdef" * 2 + changed)
    assert versus("--version") == 0
    number = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert capsys.readouterr().out == f"versus {number} 0123456789ab{changed}\n"


@pytest.mark.parametrize("command", ["", *NAMES])
def test_help_has_an_example_that_the_command_takes(capsys: pytest.CaptureFixture[str], command: str) -> None:
    text = helped(capsys, *command.split())
    (example,) = re.search(r"example:\n  (.*)\n", text).groups()  # type: ignore[union-attr]
    inner = re.search(r"\$\((.*)\)", example)
    words = shlex.split(inner[1] if inner else example)
    assert words[0] == "versus"
    assert words[1] == command or not command
    cli.parser().parse_args(words[1:])


def test_every_module_of_commands_is_one() -> None:
    modules = {path.stem for path in (ROOT / "pipeline/commands").glob("*.py")}
    assert modules - {"__init__", "numbers"} == set(NAMES)


def test_help_names_every_command_with_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    text = " ".join(helped(capsys).split())
    for command in NAMES:
        assert re.search(rf" {command} \w+ \w+", text), command


@pytest.mark.parametrize("words", [["--help"], ["predict", "--help"], ["export", "-h"], ["completion", "bash"]])
def test_help_imports_nothing_that_takes_seconds(words: list[str]) -> None:
    heavy = {"torch", "timm", "mlflow", "numpy", "pandas", "pydantic", "onnx"}
    assert not heavy & loaded(words, ROOT)


def test_models_are_listed_without_torch(tmp_path: Path) -> None:
    assert not {"torch", "timm", "mlflow"} & loaded(["models"], small_study.scores(tmp_path, small_study.SCORES))


def loaded(words: list[str], folder: Path) -> set[str]:
    """The modules that a command has imported when it is done."""
    code = (
        "import sys\nfrom pipeline import cli\ntry:\n    cli.main(sys.argv[1:])\nexcept SystemExit as end:\n"
        "    assert not end.code\nprint('loaded', *sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("words", [[], ["predict"], ["predict", "a.png", "--top", "0"], ["export", "cnn"]])
def test_a_wrong_call_is_refused_with_the_usage(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert versus(*words) == 2
    assert capsys.readouterr().err.startswith("usage: versus")


# Faults


@pytest.mark.parametrize(
    "words",
    [["predict", "a.png"], ["export", "cnn", "--onnx", "x.onnx"], ["models"], ["estimate"], ["check"]],
    ids=" ".join,
)
def test_outside_a_study_every_command_says_so_in_one_line(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert versus(*words) == 1
    assert capsys.readouterr().err == (
        "versus: params.yaml: not found; run from a study's folder, where dvc.yaml and params.yaml lie\n"
    )
    assert not list(tmp_path.iterdir())


def fails(error: BaseException) -> Callable[..., None]:
    def call(*_: object, **__: object) -> None:
        raise error

    return call


def test_an_unforeseen_error_is_one_line_that_names_the_way_to_its_trace(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pipeline.trained.listing.listed", fails(KeyError("scores")))
    assert versus("models") == 1
    assert capsys.readouterr().err == "versus: unexpected KeyError: 'scores'; --debug shows where\n"


@pytest.mark.parametrize("words", [["models", "--debug"], ["--debug", "models"]], ids=" ".join)
@pytest.mark.parametrize("error", [KeyError("scores"), StageError("no model")], ids=repr)
def test_debug_shows_the_trace(monkeypatch: pytest.MonkeyPatch, error: Exception, words: list[str]) -> None:
    monkeypatch.setattr("pipeline.trained.listing.listed", fails(error))
    with pytest.raises(type(error)):
        cli.main(words)


def test_a_reader_that_has_read_enough_is_no_error(tmp_path: Path) -> None:
    """As with `versus models | head`."""
    small_study.scores(tmp_path, small_study.SCORES)
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.cli", "models"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writing)
    assert done.stderr == ""
    assert done.returncode == 141


@pytest.mark.parametrize(
    ("words", "target", "said"),
    [
        (
            ["estimate"],
            "pipeline.commands.estimate.estimate",
            "nothing was trained or written, `versus estimate` measures anew",
        ),
        (
            ["predict", "a.png"],
            "pipeline.commands.predict.predict",
            "the images above have their answers, the others none",
        ),
        (
            ["export", "cnn", "--onnx", "x"],
            "pipeline.trained.export.export",
            "a file that is not verified is not kept",
        ),
        (["models"], "pipeline.trained.listing.listed", "nothing was changed"),
        (["prune", "--yes"], "pipeline.commands.prune.prune", "what was removed stays removed"),
        (
            ["verify", ".", "."],
            "pipeline.report.agreement.verify",
            "nothing is said of the results, which stay as they were",
        ),
        (["ablation"], "pipeline.report.experiments.show", "reports/ablation is as it was"),
        (["cross"], "pipeline.trained.cross.read", "reports/cross.json and reports/cross are as they were"),
        (["register"], "pipeline.params.read.load_params", "registration.json is as it was"),
        (["looks"], "pipeline.records.dataset.Dataset.read", "the record has no line less than before"),
        (["paper"], "pipeline.params.read.load_params", "reports/paper is as it was"),
        (["summary", "."], "pipeline.report.protocols.read", "reports/summary is as it was"),
        (["launch"], "pipeline.launch.launcher.launch", "what was finished stays, `versus launch` goes on from there"),
        (["check"], "pipeline.stages.check.main", "nothing was changed"),
        (["schema"], "pipeline.params.schema.main", "nothing was changed"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
@pytest.mark.parametrize(
    ("error", "word", "status"), [(KeyboardInterrupt(), "interrupted", 130), (Terminated(), "terminated", 143)], ids=str
)
def test_a_command_that_is_interrupted_says_what_is_true_of_it(
    words: list[str],
    target: str,
    said: str,
    error: BaseException,
    word: str,
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(target, fails(error))
    assert versus(*words) == status
    printed = capsys.readouterr().err
    assert printed.startswith(f"versus: {word}; {said}")
    assert printed.count("\n") == 1
    assert "dvc repro" not in printed


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full ([Errno 28] No space left on device);"),
        (OSError(errno.EROFS, "Read-only file system", "x.onnx"), "x.onnx: Read-only file system; give this user the"),
        (PermissionError(errno.EACCES, "Permission denied", "x.onnx"), "x.onnx: Permission denied; give this user the"),
    ],
    ids=["full", "read-only", "forbidden"],
)
def test_a_disk_that_cannot_be_written_is_one_line_with_the_command_to_give_again(
    error: OSError, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pipeline.trained.export.export", fails(error))
    assert versus("export", "cnn", "--onnx", "x.onnx") == 1
    printed = capsys.readouterr().err
    assert printed.startswith(f"versus: {said}")
    assert printed.endswith("and run `versus export` again\n")
    assert printed.count("\n") == 1


def test_a_closed_output_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with `versus models >&-`, where Python has no sys.stdout."""
    monkeypatch.chdir(small_study.scores(tmp_path, small_study.SCORES))
    monkeypatch.setattr("sys.stdout", None)
    assert versus("models") == 0


def test_names_that_the_terminal_has_no_letters_for_are_printed_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "studies/größe"
    folder.mkdir(parents=True)
    monkeypatch.chdir(small_study.scores(folder, small_study.SCORES))
    for words in (["models"], ["models", "--json"]):
        raw = io.BytesIO()
        monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding="ascii"))
        assert versus(*words) == 0
        text = raw.getvalue().decode("ascii")
        assert "gr\\xf6\\xdfe" in text or json.loads(text)["study"] == "größe"


@pytest.mark.parametrize("number", ["nan", "inf", "-1", "week"])
def test_a_number_of_days_that_is_none_is_refused(number: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert versus("prune", "--days", number) == 2
    assert versus("verify", ".", "--tolerance", number) == 2
    assert "argument --days: invalid amount value" in capsys.readouterr().err


# Commands


@pytest.mark.usefixtures("trained_study")
def test_predict_ends_with_an_error_if_any_image_had_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert versus("predict", "none.png", "--model", "tiny-0") == 1
    assert "versus: none.png: no such file\n" in capsys.readouterr().err


def test_models_shows_validation_and_test_scores_and_marks_the_best_by_validation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = small_study.scores(tmp_path, small_study.SCORES)
    shutil.rmtree(folder / "models/vit-0")  # its scores are in git, its weights elsewhere
    (folder / "reports/evaluations/vit-1.json").unlink()  # not evaluated
    monkeypatch.chdir(folder)
    assert versus("models") == 0
    output = capsys.readouterr().out
    rows = [re.split(r"\s{2,}", line.strip()) for line in output.splitlines()[2:6]]
    assert rows == [
        ["cnn-0", "0.7000", "0.9900", "0.9900", "models/cnn-0"],
        ["cnn-1 *", "0.9000", "0.1000", "0.1000", "models/cnn-1"],
        ["vit-0", "0.8000", "0.9500", "0.9500", "-"],
        ["vit-1", "0.6000", "-", "-", "models/vit-1"],
    ]
    assert "Weights that are not here: run `dvc repro`" in output
    assert versus("models", "--json") == 0
    listed = json.loads(capsys.readouterr().out)["models"]
    assert [row["model"] for row in listed if row["default"]] == ["cnn-1"]
    assert [row["weights"] is None for row in listed] == [False, False, True, False]
    assert listed[3]["test"] is None


def test_models_where_nothing_is_trained_names_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(small_study.write(tmp_path, {}))
    assert versus("models") == 1
    assert capsys.readouterr().err.startswith("versus: no trained model in models/; run `dvc repro`")


def test_check_refuses_what_the_stage_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(small_study.write(tmp_path, {"train.epoch": 3}))
    assert versus("check") == 1
    assert "versus: params.yaml: train.epoch: unknown key; did you mean 'epochs'?" in capsys.readouterr().err
    small_study.write(tmp_path, {}, {"m": {"family": "timm", "backbone": "resnet19"}})
    assert versus("check") == 1
    assert "versus: params.yaml: models.m.backbone: timm has no 'resnet19'; did you mean" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_bash_completes_commands_and_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert versus("completion", "bash") == 0
    script = tmp_path / "versus.bash"
    script.write_text(capsys.readouterr().out)

    def completed(*words: str) -> list[str]:
        line = " ".join(map(shlex.quote, words))
        ask = f"source {script}; COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; $(complete -p versus |"
        ask += " sed 's/.*-F \\([^ ]*\\).*/\\1/'); printf '%s\\n' \"${COMPREPLY[@]}\""
        done = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, check=True, cwd=tmp_path)
        return sorted(done.stdout.split())

    assert completed("versus", "p") == ["pack", "page", "paper", "predict", "probe", "prune"]
    assert completed("versus", "ex") == ["experiments", "export"]
    assert completed("versus", "predict", "--m") == ["--model"]
    assert completed("versus", "export", "--o") == ["--onnx"]
    assert "versus.bash" in completed("versus", "export", "cnn", "--onnx", "")
    assert "versus.bash" in completed("versus", "verify", "")


# Texts


def test_readme_and_docs_show_every_command_as_it_is_taken() -> None:
    text = "\n".join(page.read_text() for page in (ROOT / "README.md", *ROOT.glob("docs/*.md")))
    calls = re.findall(r"^(?:eval \"\$\()?versus ([^#\n)]*)", text, re.MULTILINE)
    assert {call.split()[0] for call in calls} == set(NAMES)
    for call in calls:
        cli.parser().parse_args(shlex.split(call))
