"""A report says of which commit trainings are, and what of them no commit has."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipeline.params.read import load_params
from pipeline.report import commits, results
from pipeline.report.found import Found
from tests import fake_study, repo

SAID = " with changes that are not committed: "


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study in a repository whose only commit is of before it."""
    root = tmp_path_factory.mktemp("checkout")
    repo.call(root, "git", "init", "--quiet")
    (root / "README.md").write_text("of before the study")
    repo.commit(root)
    return fake_study.write(root / "studies/mine", ("cnn", "vit"), (0, 1), epochs=2, images=40)


@pytest.fixture
def found(study: Path, monkeypatch: pytest.MonkeyPatch) -> Found:
    monkeypatch.chdir(study)
    return results.read(load_params())


def head() -> str:
    return repo.call(Path.cwd(), "git", "rev-parse", "HEAD").strip()


def committed(change: Callable[[dict[str, Any]], object]) -> str:
    """A commit in which params.yaml is changed; here it stays as it was."""
    path = Path("params.yaml")
    before = path.read_text(encoding="utf-8")
    content = YAML(typ="safe").load(before)
    change(content)
    with path.open("w", encoding="utf-8") as file:
        YAML().dump(content, file)
    repo.commit(path.parent.resolve())
    path.write_text(before, encoding="utf-8")
    return head()


def said(found: Found, commit: str, name: str = "cnn-0") -> str:
    """What is said of a training, were it of this commit."""
    evaluation = next(each for each in found.evaluations if f"{each.model}-{each.replicate}" == name)
    settings, model = found.settings, evaluation.model
    config = {
        "dataset": {"image_size": settings.dataset.image_size},
        "train": settings.model_train(model).plain(),
        "augment": settings.model_augment(model).model_dump(),
        "model": settings.network(model),  # without train_fraction, as an earlier version had it
    }
    trained = dataclasses.replace(evaluation, config=config, run=dataclasses.replace(evaluation.run, commit=commit))
    return commits.named([trained], found).removeprefix(commit.partition("-")[0])


def test_a_commit_of_before_the_study_of_changed_code_or_of_another_clone_is_said_to_be(found: Found) -> None:
    before = head()
    assert said(found, before) == f"{SAID}params.yaml"
    assert said(found, f"{before}-dirty") == f"{SAID}code and params.yaml"
    assert said(found, "0" * 40) == " (not in this clone)"
    assert said(found, f"{'0' * 40}-dirty") == f" (not in this clone){SAID}code"
    assert said(found, "") == "not known"
    assert commits.named(found.evaluations, found, 7) == "0000000 (not in this clone)", "each once"


def test_models_and_replicates_that_came_later_accuse_no_earlier_training(found: Found) -> None:
    only = committed(lambda content: content.update(models={"cnn": content["models"]["cnn"]}, replicates=[0]))
    assert said(found, only) == ""
    assert said(found, only, "cnn-1") == f"{SAID}params.yaml", "its replicate is not there yet"
    assert said(found, only, "vit-0") == f"{SAID}params.yaml"


def test_settings_of_the_models_own_accuse_its_trainings_alone(found: Found) -> None:
    own = committed(lambda content: content["models"]["vit"].update(train={"lr": 0.5}))
    assert (said(found, own), said(found, own, "vit-0")) == ("", f"{SAID}params.yaml")
    every = committed(lambda content: content["train"].update(lr=0.5))
    assert said(found, every) == f"{SAID}params.yaml"
    split = committed(lambda content: content["split"].update(seed=7))
    assert said(found, split) == f"{SAID}params.yaml"


def test_what_decides_no_training_and_what_a_version_did_not_know_accuse_none(found: Found) -> None:
    def older(content: dict[str, Any]) -> None:
        content["dataset"]["source"] = "elsewhere"
        content["train"]["device"] = "cpu"
        del content["corruptions"], content["evaluate"], content["dataset"]["resize"]

    assert said(found, committed(older)) == ""
