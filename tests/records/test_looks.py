"""How often test images were scored: each trained network once, wherever it ran, and nothing is lost in merges."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.base.errors import StageError
from pipeline.records import looks
from pipeline.records.looks import Look, different, earlier, merged, settings_digest
from tests import repo, trees

FIRST = Look("2026-01-01T00:00:00+00:00", "i" * 16, "w" * 16, "s" * 16, "t" * 16, "digits", "cnn", 0)


def another(weights: str, when: str = "02", **changes: object) -> Look:
    return replace(FIRST, weights=weights, when=f"2026-01-{when}T00:00:00+00:00", **changes)  # type: ignore[arg-type]


def test_a_network_is_looked_at_once_however_often_it_is_scored() -> None:
    again = replace(FIRST, when="2026-03-01T00:00:00+00:00", commit="later")
    assert merged([again, FIRST, again]) == [FIRST]
    assert len(merged([FIRST, replace(FIRST, images="o" * 16)])) == 2


def test_a_look_of_another_kind_is_another_and_an_evaluation_reads_as_ever() -> None:
    corrupted = replace(FIRST, kind="corruptions", when="2026-01-02T00:00:00+00:00")
    assert merged([FIRST, corrupted, corrupted]) == [FIRST, corrupted]
    assert "kind" not in FIRST.line()
    assert Look(**json.loads(corrupted.line())) == corrupted
    found = earlier([FIRST, corrupted, another("e", "01", kind="epochs"), another("z", "03")], ["z"])
    assert found is not None
    assert looks.kinds(found.looks) == " (1 as they are, 1 corrupted, 1 after every epoch)"
    assert earlier([corrupted], [FIRST.weights]) is None, "it was not evaluated"


def test_looks_before_the_results_are_those_at_the_same_images_by_other_networks_until_the_last_of_them() -> None:
    """A model that was changed after a look counts, though another of the report's models was scored before it."""
    tried, later = another("a", "02", settings="tried"), another("b", "05")
    elsewhere, shown = another("c", "02", images="o" * 16), another("d", "03", settings="kept")
    found = earlier(merged([FIRST, tried, later, elsewhere, shown]), [FIRST.weights + "0" * 48, "d"])
    assert found is not None
    assert found.looks == [tried]
    assert (found.settings, found.other_settings) == (1, 1)
    assert earlier([FIRST], ["w" * 16, "unknown"]) is None


def test_looks_of_other_settings_since_the_results_are_known_and_the_same_settings_again_are_none() -> None:
    """An experiment that was looked at and given up may have been the reason to show what is shown."""
    tried = [another(f"t{seed}", "05", settings="tried", replicate=seed) for seed in range(3)]
    found = earlier(merged([FIRST, *tried, another("r", "06"), another("x", "06", images="o" * 16)]), [FIRST.weights])
    assert found is not None
    assert (found.looks, found.since, different(found.since)) == ([], tried, 1)


def test_replicates_are_one_setting_and_other_training_images_another() -> None:
    seeds = [replace(FIRST, weights=str(seed), replicate=seed) for seed in range(3)]
    splits = [replace(each, trained_on=each.weights) for each in seeds]
    imbalanced = [replace(each, weights=f"x{each.weights}", trained_on="o") for each in seeds]
    assert (different(seeds), different(splits), different(seeds + imbalanced)) == (1, 1, 2)
    assert different([]) == 0


def test_settings_are_the_same_on_another_machine_and_from_another_seed() -> None:
    config = {"dataset": {"digest": "a", "image_size": 32}, "augment": {"flip": True}, "model": {"family": "tiny"}}
    train = {"lr": 0.1, "device": "cpu"}
    first = settings_digest({**config, "train": train})
    moved = {**config, "train": {**train, "device": "cuda"}, "dataset": {"digest": "b", "image_size": 32}}
    assert settings_digest(moved) == first
    assert settings_digest({**config, "train": {**train, "lr": 0.2}}) != first
    assert settings_digest({**config, "train": {**train, "label_smoothing": 0.0}}) == first, "which it is by default"


def test_settings_that_an_older_version_did_not_know_are_as_they_are_by_default() -> None:
    pipeline = {"crop": 0.2, "aspect": 0.1, "rotate": 0.0, "jitter": 0.2, "erase": 0.0}
    older: dict[str, Any] = {
        "dataset": {"image_size": 32},
        "train": {"lr": 0.1},
        "augment": {"light": pipeline},
        "model": {"family": "timm", "backbone": "resnet18", "dropout": 0.1},
    }
    model = {**older["model"], "pretrained": False, "blurpool": False, "squeeze_excite": 0.0, "train_fraction": 1.0}
    augment = {"light": {**pipeline, "shift": 0.0}, "policy": "none"}
    assert settings_digest({**older, "model": model, "augment": augment}) == settings_digest(older)
    shifted = {"light": {**pipeline, "shift": 0.1}}
    assert settings_digest({**older, "augment": shifted}) != settings_digest(older)
    assert settings_digest({**older, "model": {**model, "dropout": 0.0}}) != settings_digest(older)
    assert settings_digest({**older, "model": {**model, "train_fraction": 0.5}}) != settings_digest(older)


def test_git_keeps_what_it_had_when_a_study_is_renamed_and_what_another_study_scored_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / "reports").mkdir()
    monkeypatch.chdir(tmp_path)
    looks.keep("one")
    assert not looks.COMMITTED.exists(), "there is nothing to say"
    looks.note([FIRST, replace(FIRST, study="one", when="2030-01-01T00:00:00+00:00"), another("b", study="one")])
    looks.COMMITTED.write_text(another("a", study="before").line())
    looks.keep("one")
    assert [(look.weights[0], look.study) for look in looks.read(looks.COMMITTED)] == [
        ("a", "before"),
        ("b", "one"),
        ("w", "one"),
    ]


def test_looks_of_an_experiments_copy_and_of_a_launched_clone_are_in_the_users_own_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copies are deleted; what was looked at in them stays known."""
    home, copy, clone = tmp_path / "home", tmp_path / "home/.dvc/tmp/exps/tmpa", tmp_path / "clone"
    for folder in (home, copy, clone):
        (folder / ".git").mkdir(parents=True)
    monkeypatch.chdir(copy)
    looks.note([FIRST])
    monkeypatch.setenv("VERSUS_HOME", str(home))
    monkeypatch.chdir(clone)
    looks.note([another("b")])
    monkeypatch.delenv("VERSUS_HOME")
    shutil.rmtree(copy)
    shutil.rmtree(clone)
    (home / "studies/one/reports").mkdir(parents=True)
    (home / "studies/one" / looks.COMMITTED).write_text(another("c", study="one").line() + FIRST.line())
    monkeypatch.chdir(home)
    assert [look.weights[0] for look in looks.known()] == ["w", "b", "c"]


def test_git_keeps_the_looks_of_both_branches_in_a_merge(tmp_path: Path) -> None:
    shutil.copy(repo.ROOT / ".gitattributes", tmp_path)
    path = tmp_path / looks.COMMITTED
    repo.call(tmp_path, "git", "init", "--quiet", "--initial-branch", "main")
    for branch, look in (("main", FIRST), ("theirs", another("b", "03")), ("main", another("c", "02"))):
        if branch == "theirs":
            repo.call(tmp_path, "git", "branch", "theirs")
        repo.call(tmp_path, "git", "switch", "--quiet", branch) if path.exists() else None
        trees.put(path, "".join(each.line() for each in [*looks.read(path), look]).encode())
        repo.commit(tmp_path)
    repo.call(tmp_path, "git", "merge", "--quiet", "theirs")
    assert [look.weights[0] for look in merged(looks.read(path))] == ["w", "c", "b"]


def test_a_damaged_record_is_named_with_its_remedy(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"looks\.jsonl: not readable as a line of JSON for each look"):
        looks.read(trees.put(tmp_path / "looks.jsonl", FIRST.line().encode() + b"<<<<<<< ours\n"))
