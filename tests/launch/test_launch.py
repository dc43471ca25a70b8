"""Trainings beside each other give what a serial run gives, and `dvc repro` afterwards trains nothing."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import psutil
import pytest
from ruamel.yaml import YAML

from pipeline.base import git
from pipeline.base.errors import StageError
from pipeline.base.places import cores
from pipeline.launch import copies, job, launcher, local, plan, prepare, state, status, watch
from pipeline.launch.slots import Slot
from pipeline.launch.slots import slots as divided
from pipeline.launch.state import Job, Ledger
from pipeline.launch.watch import Watch
from pipeline.tracking import provenance
from tests import repo, slurm, small_study, trees

CHECKED = ("weights.safetensors", "val_logits.npy", "config.json")


def checkout(folder: Path, epochs: int = 1, replicates: tuple[int, ...] = (0, 1)) -> Path:
    """A study of one tiny network; the number of epochs is an uncommitted change."""
    repo.copy(folder)
    path = folder / "params.yaml"
    content = YAML().load(path.read_text())
    content["models"] = {"tiny": {**small_study.BASE, **small_study.MODELS["tiny"], "train": {}}}
    content["replicates"] = list(replicates)
    content["dataset"]["image_size"] = 16
    content["train"] |= {"device": "cpu", "warmup_epochs": 0}
    with path.open("w") as file:
        YAML().dump(content, file)
    repo.commit(folder)
    repo.change(folder, {"train.epochs": epochs})
    return folder


def test_an_option_of_sbatch_stays_one_line_of_its_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".git").mkdir()
    small_study.write(tmp_path, {})
    (tmp_path / "dvc.yaml").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StageError) as fault:
        launcher.launch(launcher.Asked("slurm", resources={"partition": "gpu\nrm -r x", "output": "y", "--wrap": "z"}))
    assert str(fault.value).splitlines() == [
        "launch: slurm.partition: got 'gpu\\nrm -r x'; wanted one line of text or a number",
        "launch: slurm.output: `versus launch` sets it itself; leave it out",
        "launch: slurm: got '--wrap'; wanted an option of sbatch without its dashes",
    ]


def versus(folder: Path, *arguments: str, fails: bool = False, **environment: str) -> str:
    command = [sys.executable, "-m", "pipeline.cli", "launch", *arguments]
    return repo.call(folder, *command, fails=fails, PYTHONPATH=str(folder), OMP_NUM_THREADS="1", **environment)


def trained(folder: Path, key: str) -> list[bytes]:
    """What a training of a serial run, or of a launched one, is known by: weights, logits, settings, scores."""
    files = [folder / "models" / key / name for name in CHECKED]
    files += [folder / f"reports/histories/{key}.csv", folder / f"data/predictions/{key}.parquet"]
    files += [folder / f"data/logits/{key}.npy"]
    return [path.read_bytes() for path in files]


def assert_as_serial(folder: Path, keys: tuple[str, ...]) -> None:
    """`dvc repro` takes all from the run-cache; and what it takes is what a serial run makes."""
    output = repo.call(folder, "dvc", "repro", *[f"evaluate@{key}" for key in keys])
    assert repo.ran(output) == []
    found = [trained(folder, key) for key in keys]
    again = [f"{stage}@{key}" for key in keys for stage in ("train", "evaluate")]
    output = repo.call(folder, "dvc", "repro", "--force", "--single-item", *again, OMP_NUM_THREADS="1")
    assert repo.ran(output) == again
    assert [trained(folder, key) for key in keys] == found


# What is asked for


def test_the_longest_trainings_start_first_and_those_of_unknown_length_before_them() -> None:
    groups = [plan.Group(key, [], []) for key in ("cnn-0", "vit-0", "cnn_wide-0", "vit-1", "new-0")]
    ordered = plan.longest_first(groups, {"cnn": 5.0, "cnn_wide": 9.0, "vit": 7.0})
    assert [group.key for group in ordered] == ["new-0", "cnn_wide-0", "vit-0", "vit-1", "cnn-0"]


def test_eight_gpus_are_busy_nine_tenths_of_the_time_with_forty_measured_trainings(tmp_path: Path) -> None:
    from benchmarks import schedule

    study = schedule.STUDY.relative_to(repo.ROOT).as_posix()
    lengths = schedule.trainings(repo.export(tmp_path, f"{study}/params.yaml", f"{study}/reports/evaluations") / study)
    assert len(lengths) == 40
    assert schedule.busy(lengths) >= 0.9
    assert schedule.busy(lengths) > schedule.busy(lengths[::-1])
    assert schedule.busy([10.0] * 16, workers=8, overhead=0) == 1
    assert schedule.busy([10.0] * 9, workers=8, overhead=0) == 90 / 160


def test_a_grid_is_what_dvc_makes_of_the_same_overrides() -> None:
    assert plan.variants([]) == [[]]
    found = plan.variants(["train.lr=0.1,0.2", "models.cnn.depth=1"])
    assert found == [["train.lr=0.1", "models.cnn.depth=1"], ["train.lr=0.2", "models.cnn.depth=1"]]
    with pytest.raises(StageError, match=r"launch: -S train\.lr="):
        plan.variants(["train.lr=[1"])


def test_an_override_of_a_key_that_is_not_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("train:\n  lr: 0.1\n")
    plan.override(tmp_path, ["train.lr=0.2"])
    assert YAML().load(tmp_path / "params.yaml") == {"train": {"lr": 0.2}}
    with pytest.raises(StageError, match=r"launch: -S train.rate=1: .*rate"):
        plan.override(tmp_path, ["train.rate=1"])


@pytest.mark.parametrize(
    ("workers", "devices", "gpus", "cores", "found"),
    [
        (None, 1, ["0", "1"], 8, [(("0",), 4), (("1",), 4)]),
        (None, 2, ["0", "1", "2", "3", "4"], 4, [(("0", "1"), 2), (("2", "3"), 2)]),
        (None, 1, ["0", "1", "2", "3"], 2, [(("0",), 1), (("1",), 1)]),
        (3, 1, ["0", "1"], 6, [(("0",), 2), (("1",), 2), (("0",), 2)]),
        (2, 1, [], 5, [((), 2), ((), 2)]),  # equal: a training's bytes depend on its threads
        (None, 1, [], 5, [((), 2), ((), 2)]),
        (None, 1, [], 2, [((), 1), ((), 1)]),  # 1.5 times as fast as one with two threads
        (None, 1, [], 3, [((), 1), ((), 1)]),
        (None, 2, [], 2, [((), 2)]),  # its two processes share the cores
        (None, 1, [], 1, [((), 1)]),
    ],
)
def test_gpus_and_cores_are_divided_among_workers(
    workers: int | None, devices: int, gpus: list[str], cores: int, found: list[tuple[tuple[str, ...], int]]
) -> None:
    slots = divided(workers, devices, gpus, range(cores))
    assert [(slot.gpus, len(slot.cores)) for slot in slots] == found
    used = [core for slot in slots for core in slot.cores]
    assert sorted({*used}) == sorted(used)
    assert {*used} <= {*range(cores)}


def test_more_workers_than_cores_or_devices_than_gpus_are_refused() -> None:
    with pytest.raises(StageError, match="3 workers on 2 cores; ask for --workers 2 or fewer"):
        divided(3, 1, [], range(2))
    with pytest.raises(StageError, match=r"train\.devices is 4, and this machine has 2 GPUs"):
        divided(None, 4, ["0", "1"], range(8))


FAULT = """\
Running stage 'train@cnn-0':
versus: the loss is nan at epoch 1, step 2; lower train.lr
ERROR: failed to reproduce 'train@cnn-0': failed to run: python -m pipeline.stages.train cnn 0, exited with 1
"""


def test_a_fault_that_the_user_has_to_mend_is_told_from_a_death() -> None:
    assert job.judge(FAULT) == ("fault", "the loss is nan at epoch 1, step 2; lower train.lr")
    assert job.judge(FAULT.replace("with 1", "with -9"))[0] == "died"
    assert job.judge("Traceback (most recent call last):\n" + FAULT)[0] == "died"
    assert job.judge(FAULT.replace("with 1", "with 75")) == ("died", job.judge(FAULT)[1]), "tried again"
    assert job.judge("") == ("died", "")


def begin(folder: Path) -> None:
    """A repository of git's and DVC's."""
    for command in ("git", "dvc"):
        repo.call(folder, command, "init", "--quiet")


STAGES = """\
stages:
  train:
    matrix:
      key: [cnn-0, vit-0]
    cmd: cp settings ${item.key}
    deps: [settings]
    outs: ["${item.key}"]
"""


@pytest.mark.filterwarnings("ignore:_NoneStep:DeprecationWarning")  # of a library of DVC's
def test_what_a_point_of_a_grid_finds_in_the_run_cache_is_not_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A point's copy of the checkout is not the folder that the launch was started in."""
    study = tmp_path / "study"
    study.mkdir()
    (study / "dvc.yaml").write_text(STAGES)
    (study / "settings").write_text("1")
    begin(study)
    repo.call(study, "dvc", "repro", "train@cnn-0")
    for name in ("dvc.lock", "cnn-0"):
        (study / name).unlink()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with plan.opened(study) as opened:
        (wave,) = plan.plan(opened)
        missing = plan.to_run(opened, wave.groups)
    assert [group.key for group in missing] == ["vit-0"]
    with plan.opened(study) as opened:
        plan.take(opened, ["train@gone-0", "train@cnn-0", "train@vit-0"])
    assert Path.cwd() == tmp_path / "elsewhere"
    assert [(study / name).exists() for name in ("cnn-0", "vit-0")] == [True, False], "what is not there is not run"
    assert "up to date" in repo.call(study, "dvc", "status", "train@cnn-0")
    assert "/cnn-0" in (study / ".gitignore").read_text()


@pytest.mark.filterwarnings("ignore:_NoneStep:DeprecationWarning")
def test_what_is_recorded_is_of_the_settings_as_they_are_now_not_of_the_result_before_them(tmp_path: Path) -> None:
    """The run-cache has both; dvc.lock and the file come to what `dvc repro` had made of them."""
    (tmp_path / "dvc.yaml").write_text(STAGES + "    params: [lr]\n")
    begin(tmp_path)
    made = {}
    for lr in (2, 1):
        (tmp_path / "params.yaml").write_text(f"lr: {lr}\n")
        (tmp_path / "settings").write_text(str(lr))
        repo.call(tmp_path, "dvc", "repro")
        made[lr] = YAML(typ="safe").load(tmp_path / "dvc.lock")
    for changed in ("settings", "params.yaml"):
        path = tmp_path / changed
        path.write_text(path.read_text().replace("1", "2"))
    with plan.opened(tmp_path) as opened:
        plan.take(opened, ["train@cnn-0", "train@vit-0"])
    assert [(tmp_path / name).read_text() for name in ("cnn-0", "vit-0")] == ["2", "2"]
    assert YAML(typ="safe").load(tmp_path / "dvc.lock") == made[2] != made[1]


@pytest.mark.filterwarnings("ignore:_NoneStep:DeprecationWarning")
def test_a_recorded_result_is_not_replaced_by_a_later_one_of_the_same_settings(tmp_path: Path) -> None:
    """A training on a GPU, or in another checkout of the same cache, gives others; what dvc.lock has stands."""
    (tmp_path / "dvc.yaml").write_text(STAGES.replace("cp settings", "date +%N >"))
    (tmp_path / "settings").write_text("1")
    begin(tmp_path)
    repo.call(tmp_path, "dvc", "repro")
    first, lock = (tmp_path / "cnn-0").read_text(), (tmp_path / "dvc.lock").read_text()
    repo.call(tmp_path, "dvc", "repro", "--force")
    assert (tmp_path / "cnn-0").read_text() != first
    (tmp_path / "dvc.lock").write_text(lock)
    (tmp_path / "cnn-0").unlink()
    with plan.opened(tmp_path) as opened:
        plan.take(opened, ["train@cnn-0", "train@vit-0"])
    assert (tmp_path / "cnn-0").read_text() == first
    assert YAML(typ="safe").load(tmp_path / "dvc.lock") == YAML(typ="safe").load(lock)


@pytest.mark.filterwarnings("ignore:_NoneStep:DeprecationWarning")
def test_a_launch_that_is_ended_while_it_records_leaves_a_whole_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was recorded before stands, and git is not to keep its files."""
    from dvc.dvcfile import ProjectFile

    (tmp_path / "dvc.yaml").write_text(STAGES)
    (tmp_path / "settings").write_text("1")
    begin(tmp_path)
    repo.call(tmp_path, "dvc", "repro")
    for name in ("dvc.lock", "cnn-0", "vit-0", ".gitignore"):
        (tmp_path / name).unlink()
    restored, dump = plan._restored, ProjectFile.dump_stages

    def interrupted(opened: Any, stage: Any) -> bool:
        if stage.name == "train@vit-0":
            raise KeyboardInterrupt
        return restored(opened, stage)

    def ended(file: Any, stages: Any, **settings: Any) -> None:
        signal.raise_signal(signal.SIGTERM)  # comes while the file is written
        dump(file, stages, **settings)

    def end(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(plan, "_restored", interrupted)
    monkeypatch.setattr(ProjectFile, "dump_stages", ended)
    before = signal.signal(signal.SIGTERM, end)
    try:
        with pytest.raises(KeyboardInterrupt), plan.opened(tmp_path) as opened:
            plan.take(opened, ["train@cnn-0", "train@vit-0"])
    finally:
        signal.signal(signal.SIGTERM, before)
    assert "up to date" in repo.call(tmp_path, "dvc", "status", "train@cnn-0")
    assert "/cnn-0" in (tmp_path / ".gitignore").read_text()


@pytest.mark.filterwarnings("ignore:_NoneStep:DeprecationWarning")
@pytest.mark.parametrize("name", [".", "studies/jaffe_cbam"])
def test_a_job_is_brought_what_it_reads_of_shared_stages_files_of_a_folder_too(tmp_path: Path, name: str) -> None:
    """Of the code, what its stages depend on; its model's note on weights."""
    for file in ("dvc.yaml", "params.yaml"):
        shutil.copy(repo.ROOT / name / file, tmp_path)
    begin(tmp_path)
    with plan.opened(tmp_path) as opened:
        (found,) = plan.plan(opened)
    assert found.shared == ["check", "source", "fetch", "split", "promote", "choose"]
    for group in found.groups:
        model, replicate = group.key.rsplit("-", 1)
        code = ["data/code/evaluate", "data/code/train"]
        chosen = f"data/chosen/{model}.json"
        assert group.needs == [
            f"data/before/{group.key}",
            chosen,
            *code,
            f"data/fit/{replicate}",
            f"data/test/{replicate}",
            f"data/weights/{model}",
        ]


@pytest.mark.filterwarnings("ignore:_NoneStep:DeprecationWarning")
def test_trials_and_teachers_run_side_by_side_before_any_training_does(tmp_path: Path) -> None:
    """A training waits for what all of them come to; its name may be a trial's too, or a teacher's."""
    shutil.copy(repo.ROOT / "dvc.yaml", tmp_path)
    trees.study(
        tmp_path,
        {
            "tune": {"trials": [0, 1], "models": {"cnn": {}, "vit": {}}, "finalists": []},
            "teachers": {"hybrid": {}},
            "replicates": [0],
        },
    )
    begin(tmp_path)
    with plan.opened(tmp_path) as opened:
        first, last = plan.plan(opened)
    trials = ["trial cnn-0", "trial cnn-1", "trial vit-0", "trial vit-1"]
    assert sorted(group.key for group in first.groups) == ["teacher hybrid-0", *trials]
    assert sorted(group.key for group in last.groups) == ["cnn-0", "hybrid-0", "vit-0"]
    assert first.shared == ["check", "source", "fetch", "split"]
    assert last.shared == ["promote", "choose"]
    assert [group.targets for group in last.groups if group.key == "cnn-0"] == [["train@cnn-0", "evaluate@cnn-0"]]
    assert not [path for group in first.groups for path in group.needs if path.startswith("data/test")]
    ordered = plan.longest_first(first.groups, {"cnn": 5.0, "vit": 9.0, "hybrid": 7.0})
    names = ["trial vit", "trial vit", "teacher hybrid", "trial cnn", "trial cnn"]
    assert [group.key.partition("-")[0] for group in ordered] == names


@pytest.mark.filterwarnings("ignore:_NoneStep:DeprecationWarning")
def test_mlflow_is_told_what_a_point_of_a_grid_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dvc.yaml").write_text(STAGES)
    (tmp_path / "settings").touch()
    trees.study(tmp_path, {"train.lr": 0.1})
    begin(tmp_path)
    repo.commit(tmp_path)
    monkeypatch.chdir(tmp_path)
    ledger = Ledger(tmp_path / ".dvc/tmp/versus/study")
    ledger.folder.mkdir(parents=True)
    prepared = prepare.Preparation(ledger, tmp_path, "refs/versus/test", through_remote=False)
    point = prepared.experiment(["train.lr=0.2"])
    monkeypatch.chdir(point.workspace)
    for key, value in point.environment.items():
        monkeypatch.setenv(key, value)
    assert provenance.changes() == {"train.lr": "0.1 -> 0.2"}


def test_a_grid_of_a_study_that_git_does_not_know_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DVC would train its points and then find no study to record them of."""
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    repo.commit(tmp_path)
    (tmp_path / "studies/mine").mkdir(parents=True)
    small_study.write(tmp_path / "studies/mine", {})
    (tmp_path / "studies/mine/dvc.yaml").write_text("stages: {}\n")
    monkeypatch.chdir(tmp_path / "studies/mine")
    with pytest.raises(StageError, match=r"git does not know dvc\.yaml and 1 more.*git add, git commit, then launch"):
        launcher.launch(launcher.Asked("local", ["train.lr=0.1,0.2"]))


def test_a_study_whose_name_git_refuses_is_launched_under_another() -> None:
    for name in ("my faces", "émotions", "x.lock"):
        subprocess.run(["git", "check-ref-format", launcher.reference(name)], check=True)
    assert launcher.reference("a") != launcher.reference("b")


def test_a_launch_is_stopped_on_its_own_host_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "place", lambda: tmp_path)
    with pytest.raises(StageError, match="no launch of this study is running"):
        status.stop()
    with Ledger(tmp_path).held():
        (tmp_path / state.LAUNCHER).write_text("1 login2")
        with pytest.raises(StageError, match="runs on login2; stop it there"):
            status.stop()


def test_status_says_what_is_done_while_no_jobs_tell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(state, "place", lambda: tmp_path)

    def said() -> str:
        capsys.readouterr()
        status.status()
        return capsys.readouterr().out

    assert said() == "launch: nothing was launched here\n"
    with Ledger(tmp_path).held():
        assert said() == "launch: starting\n"
        Ledger(tmp_path).begin("preparing digits: asking DVC what is to be trained")
        assert said() == "launch: preparing digits: asking DVC what is to be trained\n"
    assert "launch: it ended while preparing digits: asking DVC what is to be trained; `versus launch` goes" in said()
    Ledger(tmp_path).end()
    Ledger(tmp_path).write("local", [])
    assert said() == "launch: there was nothing to train\n"
    Ledger(tmp_path).write("local", [Job("cnn-0", str(tmp_path / "cnn-0"), state="done", seconds=3.0)])
    with Ledger(tmp_path).held():
        Ledger(tmp_path).begin("finishing the study with DVC")
        assert re.fullmatch(r"cnn-0  done .*\nlaunch: on local: 1 done\nlaunch: finishing the study with DVC\n", said())


def test_a_launch_that_is_just_starting_or_is_anothers_is_not_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "place", lambda: tmp_path)
    with Ledger(tmp_path).held():
        (tmp_path / state.LAUNCHER).write_text("")
        with pytest.raises(StageError, match="is just starting; try again"):
            status.stop()


@pytest.mark.parametrize(
    ("lacks", "said"),
    [
        ("git", "no git checkout here"),
        ("params.yaml", "params.yaml: not found"),
        ("dvc.yaml", "dvc.yaml: not found"),
        ("a commit", "nothing is committed here yet; .* git add, git commit"),
        ("git's program", "needs git, which is not installed or not on PATH"),
    ],
)
def test_what_a_launch_lacks_is_named(lacks: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_study.write(tmp_path, {})
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    if lacks != "git":
        subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    if lacks == "git's program":
        monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / lacks).unlink(missing_ok=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StageError, match=f"^(launch: )?{said}"):
        launcher.launch(launcher.Asked("local"))


DVC = """\
#!/bin/sh
sleep 600 &
echo $! > sleeping
wait $!
echo ended > written
"""


def test_dvc_ends_with_its_stage_and_by_itself_where_its_caller_is_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed, it would leave the stage running and perhaps half a dvc.lock."""
    (tmp_path / "python").write_text(DVC)
    (tmp_path / "python").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))

    def wait(*_: object, **__: object) -> int:
        while not (tmp_path / "sleeping").exists() or not (tmp_path / "sleeping").read_text():
            time.sleep(0.05)
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess.Popen, "wait", wait)
    with pytest.raises(KeyboardInterrupt):
        git.dvc(tmp_path, "repro")
    assert (tmp_path / "written").read_text() == "ended\n"
    assert not repo.running(int((tmp_path / "sleeping").read_text()))


# Jobs


def jobs(folder: Path, scripts: dict[str, str]) -> list[Job]:
    """Jobs that run scripts of our own on this machine."""
    made = []
    for name, script in scripts.items():
        (folder / name).mkdir()
        (folder / name / "script").write_text(
            f"import json, os, pathlib, time\nhere = pathlib.Path({str(folder / name)!r})\n{script}"
        )
        made.append(Job(name, str(folder / name)))
    return made


DONE = "(here / 'result.json').write_text(json.dumps({'outcome': 'done', 'reason': '', 'seconds': 1}))\n"
DIES_ONCE = "if not (here / 'log').exists():\n    (here / 'log').write_text('')\n    os.kill(os.getpid(), 9)\n" + DONE
FAULTY = DONE.replace("done", "fault")


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> local.Local:
    monkeypatch.setattr(local, "command", lambda folder: [sys.executable, str(folder / "script")])
    monkeypatch.setattr(local, "GRACE", 1)
    return local.Local([Slot((), tuple(cores()))] * 2)


def test_a_job_that_dies_is_tried_again_and_a_fault_is_not(tmp_path: Path, scripted: local.Local) -> None:
    made = jobs(tmp_path, {"good": DONE, "weak": DIES_ONCE, "faulty": FAULTY, "dead": "os.kill(os.getpid(), 9)"})
    Watch(Ledger(tmp_path), "local", scripted, made, attempts=2).until_done()
    assert {each.name: (each.state, each.attempts) for each in made} == {
        "good": ("done", 1),
        "weak": ("done", 2),
        "faulty": ("failed", 1),
        "dead": ("failed", 2),
    }
    assert Ledger(tmp_path).read().jobs == made


def test_ctrl_c_ends_all_jobs_and_their_children(
    tmp_path: Path, scripted: local.Local, monkeypatch: pytest.MonkeyPatch
) -> None:
    sleep = "import time; time.sleep(600)"
    child = f"import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', {sleep!r}])\n{sleep}"
    made = jobs(tmp_path, {"one": child, "two": child, "waits": DONE})
    seen: list[int] = []

    def interrupt(_: object) -> None:
        found = [process.pid for each in made for process in local._processes(Path(each.folder))]
        if len(found) == 4:
            seen.extend(found)
            raise KeyboardInterrupt
        time.sleep(0.1)

    monkeypatch.setattr(watch, "time", type("Clock", (), {"sleep": interrupt, "time": time.time}))
    with pytest.raises(KeyboardInterrupt):
        Watch(Ledger(tmp_path), "local", scripted, made, attempts=2).until_done()
    assert [each.state for each in made] == ["stopped"] * 3
    assert len(seen) == 4
    assert not [pid for pid in seen if repo.running(pid)]


def test_a_second_ctrl_c_while_the_jobs_are_ended_leaves_none(
    tmp_path: Path, scripted: local.Local, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = jobs(tmp_path, {"one": "time.sleep(600)"})
    end = scripted.cancel

    def again(paths: list[Path]) -> None:
        signal.raise_signal(signal.SIGINT)
        end(paths)

    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(scripted, "cancel", again)
    monkeypatch.setattr(watch, "time", type("Clock", (), {"sleep": interrupt, "time": time.time}))
    with pytest.raises(KeyboardInterrupt):
        Watch(Ledger(tmp_path), "local", scripted, made, attempts=2).until_done()
    assert not local._processes(made[0].path)
    assert [each.state for each in Ledger(tmp_path).read().jobs] == ["stopped"]


def test_where_nobody_reads_what_it_says_any_more_a_launch_ends_its_jobs(
    tmp_path: Path, scripted: local.Local, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in `versus launch | head -1`, and where the terminal is gone."""
    made = jobs(tmp_path, {"one": "time.sleep(600)"})
    reader, writer = os.pipe()
    os.close(reader)
    with monkeypatch.context() as patch, open(writer, "w", buffering=1) as gone:
        patch.setattr(sys, "stdout", gone)
        with pytest.raises(BrokenPipeError):
            Watch(Ledger(tmp_path), "local", scripted, made, attempts=2).until_done()
        patch.undo()
        with contextlib.suppress(BrokenPipeError):
            gone.close()
    assert not local._processes(made[0].path)
    assert [each.state for each in Ledger(tmp_path).read().jobs] == ["stopped"]


def test_what_was_launched_on_another_host_is_ended_there_only(tmp_path: Path) -> None:
    (left,) = jobs(tmp_path, {"left": ""})
    left.state = "running"
    ledger = Ledger(tmp_path)
    ledger.write("local", [left])
    for host, refused in (("login1", True), (socket.gethostname(), False)):
        (left.path / job.STARTED).write_text(json.dumps({"at": 0, "host": host}))
        with pytest.raises(StageError, match="on login1 may still run") if refused else contextlib.nullcontext():
            launcher._end_leftovers(ledger, {"workers": 1, "devices": 1})
        assert left.path.exists() == refused


def test_a_job_and_what_it_begins_find_what_the_user_added_to_pythons_path(
    tmp_path: Path, scripted: local.Local, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own/mylib.py").touch()
    script = (
        "from pipeline.launch import executor\nexecutor.forget_source()\nimport mylib\n"
        "(here / 'said').write_text(os.environ.get('PYTHONPATH', 'none'))\n"
    )
    for name, path in (("with", str(tmp_path / "own")), ("without", "")):
        monkeypatch.setenv("PYTHONPATH", path)
        made = jobs(tmp_path, {name: script.replace("import mylib\n", "import mylib\n" * bool(path)) + DONE})
        Watch(Ledger(tmp_path), "local", scripted, made, attempts=1).until_done()
        assert [each.state for each in made] == ["done"]
        assert (tmp_path / name / "said").read_text() == (path or "none")


def test_what_a_killed_launcher_left_is_ended_by_another(tmp_path: Path, scripted: local.Local) -> None:
    (left,) = jobs(tmp_path, {"left": "time.sleep(600)"})
    scripted.submit([Path(left.folder)])
    assert local._processes(Path(left.folder))
    local.Local([]).cancel([Path(left.folder)])
    assert not local._processes(Path(left.folder))
    assert scripted.states([Path(left.folder)]) == {Path(left.folder): "gone"}


# Clones


def test_dvc_reads_the_settings_of_a_clone_in_a_folder_of_any_name(tmp_path: Path) -> None:
    from dvc.config import Config

    original, clone = tmp_path / "größe", tmp_path / "clone"
    for folder in (original, clone):
        (folder / ".dvc").mkdir(parents=True)
    (original / ".dvc/config.local").write_text("[core]\n    remote = größe\n", encoding="utf-8")
    copies.configure(clone, original, {"cache": {"dir": str(original / "cache")}}, original / "site")
    found = Config(dvc_dir=str(clone / ".dvc"), validate=False)
    assert found["cache"]["dir"] == str(original / "cache")
    assert found["core"] == {"remote": "größe", "site_cache_dir": str(original / "site")} | found["core"]


@pytest.mark.parametrize("shallow", [False, True])
def test_a_clone_has_the_uncommitted_changes_at_the_users_commit(tmp_path: Path, shallow: bool) -> None:
    home = tmp_path / "home"
    home.mkdir()
    repo.call(home, "git", "init", "--quiet")
    for name in ("kept", "changed", "gone"):
        (home / name).write_text("before")
    repo.commit(home)
    if shallow:
        (home / "later").touch()
        repo.commit(home)
        (home / "later").unlink()
        repo.commit(home)
        home.rename(tmp_path / "origin")
        repo.call(tmp_path, "git", "clone", "--quiet", "--depth", "1", (tmp_path / "origin").as_uri(), "home")
    (home / ".gitignore").write_text("ignored\n")
    (home / "changed").write_text("after")
    (home / "gone").unlink()
    (home / "new").write_text("new")
    (home / "ignored").write_text("big")
    (home / os.fsdecode(b"bl\xfc.txt")).write_text("called in Latin-1")
    before = repo.call(home, "git", "status", "--porcelain")
    commit = copies.snapshot(home, "refs/versus/test", tmp_path / "index")
    head = repo.call(home, "git", "rev-parse", "HEAD").strip()
    (home / "changed").write_text("later")
    copies.clone(home, head, commit, tmp_path / "clone")
    files = {path.name: path.read_text() for path in (tmp_path / "clone").iterdir() if path.is_file()}
    assert files.pop(os.fsdecode(b"bl\xfc.txt")) == "called in Latin-1"
    assert files == {"kept": "before", "changed": "after", "new": "new", ".gitignore": "ignored\n"}
    assert repo.call(tmp_path / "clone", "git", "rev-parse", "HEAD").strip() == head
    assert repo.call(home, "git", "status", "--porcelain") == before
    copies.forget(home, "refs/versus/test")
    assert "versus" not in repo.call(home, "git", "for-each-ref")


def test_files_that_git_does_not_know_are_refused_where_they_are_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo.call(tmp_path, "git", "init", "--quiet")
    repo.commit(tmp_path)
    (tmp_path / "photos.zip").write_bytes(b"12345")
    monkeypatch.setattr(copies, "LARGEST", 4)
    with pytest.raises(StageError, match=r"photos\.zip.*name them in .gitignore"):
        copies.snapshot(tmp_path, "refs/versus/test", tmp_path / ".git/scratch")


# This machine


def test_two_local_workers_train_what_a_serial_run_trains(tmp_path: Path) -> None:
    folder = checkout(tmp_path / "größe & co")
    output = versus(folder, "--workers", "2", "--no-finish")
    assert "2 jobs on local" in output
    assert not re.search("skipping|Updating lock|dvc push|is empty", output)
    status = versus(folder, "--status")
    assert "launch: on local: 2 done" in status
    assert not (folder / "models").exists() or not list((folder / "models").glob("tiny-*"))
    store = mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    experiment = store.get_experiment_by_name("digits")
    assert experiment is not None
    runs = {run.info.run_name: run for run in store.search_runs([experiment.experiment_id])}
    assert {"tiny-0", "tiny-1", "tiny-0 test", "tiny-1 test"} <= runs.keys()
    assert runs["tiny-0"].data.tags["versus.commit"] == repo.call(folder, "git", "rev-parse", "HEAD").strip()
    assert_as_serial(folder, ("tiny-0",))


# Slurm


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    if why := slurm.missing():
        pytest.skip(why)
    with slurm.started(tmp_path_factory.mktemp("slurm")) as environment:
        yield environment


@pytest.mark.cluster
def test_slurm_runs_the_default_study_as_a_serial_run_does_and_recovers_killed_jobs(
    cluster: dict[str, str], tmp_path: Path
) -> None:
    """Its three networks and its protocol, with six epochs and two replicates for three; nothing is shared."""
    for name in ("serial", "launched"):
        repo.change(repo.copy(tmp_path / name), {"train.epochs": 6, "train.warmup_epochs": 1, "replicates": [0, 1]})
    folder, jobs = tmp_path / "launched", tmp_path / "launched/.dvc/tmp/versus/digits/study"
    command = [sys.executable, "-m", "pipeline.cli", "launch", "--on", "slurm", "--slurm", "cpus-per-task=1"]
    environment = {**os.environ, **cluster, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    with (tmp_path / "output").open("w") as output:
        started = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=output)
        victims = {"hybrid-1", "vit-0"}
        while victims:
            assert started.poll() is None, (tmp_path / "output").read_text()
            for name in victims & kept(folder):
                if name == "hybrid-1":  # as the kernel does where memory runs out
                    os.kill(training(folder, "hybrid 1"), signal.SIGKILL)
                else:  # as an operator, or a node that fails
                    subprocess.run(["scancel", (jobs / name / "slurm").read_text()], env=environment, check=True)
                victims.remove(name)
            time.sleep(0.1)
        assert started.wait(timeout=3600) == 0, (tmp_path / "output").read_text()
    said = (tmp_path / "output").read_text()
    assert "6 jobs on slurm" in said
    assert re.findall(r"(\S+) died .*; attempt (\d)", said, re.MULTILINE) in (
        [("hybrid-1", "2"), ("vit-0", "2")],
        [("vit-0", "2"), ("hybrid-1", "2")],
    )
    for name in ("hybrid-1", "vit-0"):
        assert re.search(r"train: goes on after epoch [1-5] of 6", (jobs / name / "log").read_text())
    finished = said[said.rindex("(6 of 6 done)") :]
    assert not [stage for stage in repo.ran(finished) if "@" in stage], "the last `dvc repro` trains nothing"
    again = repo.call(folder, "dvc", "repro")
    assert repo.ran(again) == []

    repo.call(tmp_path / "serial", "dvc", "repro", OMP_NUM_THREADS="1")
    assert "the same to the last bit" in repo.call(
        folder, sys.executable, "-m", "pipeline.cli", "verify", "../serial", "."
    )
    for key in (f"{model}-{replicate}" for model in ("cnn", "vit", "hybrid") for replicate in (0, 1)):
        assert trained(folder, key) == trained(tmp_path / "serial", key)
    models = [json.loads((tmp_path / name / "reports/metrics.json").read_text()) for name in ("serial", "launched")]
    for each in models:
        for scores in each["models"].values():
            del scores["train_seconds"]
    assert models[0] == models[1]


def kept(folder: Path) -> set[str]:
    """The trainings that a killed process could go on from in a checkout."""
    found = set()
    for path in (folder / ".versus/resume").glob("*/state.pt"):
        with contextlib.suppress(OSError):
            found.add(json.loads((path.parent / "about.json").read_text())["training"])
    return found


def training(folder: Path, arguments: str) -> int:
    """The process of a training in one of the clones of a checkout, once it trains."""
    due = time.monotonic() + 600
    while time.monotonic() < due:
        for process in psutil.process_iter(["cmdline", "cwd"]):
            line = " ".join(process.info["cmdline"] or [])
            inside = (process.info["cwd"] or "").startswith(f"{folder}/.dvc/tmp/versus")
            if inside and line.endswith(f"-m pipeline.stages.train {arguments}"):
                return process.pid
        time.sleep(0.1)
    raise AssertionError(f"no training of {arguments} in ten minutes")
