"""Who may teach whom: what params.yaml is refused for, and which trainings need which."""

from typing import Any

import pytest
from ruamel.yaml import YAML

from pipeline.base.errors import StageError
from pipeline.params.faults import parse
from pipeline.params.teaching import needed
from tests import trees

STUDENT: dict[str, Any] = {"models.vit.train": {"teacher": "cnn"}, "teachers": {"cnn": {}}}


def content(changes: dict[str, Any]) -> Any:
    found = YAML(typ="safe").load((trees.ROOT / "params.yaml").read_text(encoding="utf-8"))
    trees.put_settings(found, {**STUDENT, **changes})
    return found


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"teachers": {"cnm": {}}}, r"teachers\.cnm: no such model; choose from cnn, vit, hybrid"),
        ({"teachers": {"cnn": {"epochs": 3}}}, r"teachers\.cnn"),
        ({"models.vit.train": {"teacher": "cnm"}}, r"models\.vit: train\.teacher: cnm: no such model; choose from cnn"),
        ({"models.vit.train": {"teacher": "vit"}}, r"models\.vit: train\.teacher: vit: teaches itself"),
        (
            {"models.cnn.train": {"teacher": "vit"}, "teachers": {"cnn": {}, "vit": {}}},  # each the other
            r"models\.vit: train\.teacher: cnn: has a teacher itself, vit, .* set models\.cnn\.train\.teacher: null",
        ),
        ({"teachers": {}}, r"models\.vit: train\.teacher: cnn: is not among `teachers`.*add teachers: {cnn: {}}"),
        (
            {"split.folds": 3, "models.vit.train": {"teacher": "cnn", "teacher_replicates": "all"}},
            r"cnn: with split\.folds, images that one replicate learns are another's .* choose .*: same",
        ),
        (
            {"split.vary": "validation", "models.vit.train": {"teacher": "cnn", "teacher_replicates": "all"}},
            r"cnn: with split\.vary, images that one replicate learns are another's",
        ),
        (
            {"models.cnn.train": {"include_validation": True, "select": "last"}},
            r"cnn: was trained on the validation images, by which vit is chosen",
        ),
        ({"models.vit.train_fraction": 0.1}, r"cnn: sees more training images than vit has"),
        ({"models.vit.augment": {"crop_size": 24}}, r"cnn: looks at the images .* same augment\.crop_size and crop_of"),
        ({"models.vit.args.in_chans": 1}, r"cnn: looks at the images .* same number of channels"),
        (
            {"models.vit.train": {"teacher": "cnn", "tune": "head"}},
            r"cnn: vit is trained by parts .* choose train.tune",
        ),
        (
            {"tune.trials": [0], "tune.models": {"cnn": {}}, "tune.space": {"train.lr": {"choice": [0.1]}}},
            r"cnn: trials would search settings of cnn, and have no teacher; .* take cnn out of tune\.models",
        ),
        (
            {
                "models.vit.train": {},
                "tune.trials": [0],
                "tune.models": {"cnn": {}},
                "tune.space": {"train.lr": {"choice": [0.1]}},
            },  # without a student
            r"teachers\.cnn: trials would search its settings, and it trains before them; take it out",
        ),
        (
            {"tune.trials": [0], "tune.models": {"hybrid": {"train.teacher": {"choice": ["cnn", None]}}}},
            r"tune\.models\.hybrid\.train\.teacher: no trial can change it",
        ),
        ({"models.vit.train": {"teacher": "cnn", "teacher_temperature": 0}}, r"teacher_temperature"),
    ],
)
def test_a_teacher_that_is_none_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(StageError, match=message):
        parse(content(changes))


def test_trainings_need_those_of_their_teachers() -> None:
    """With folds the one of the same fold alone: no other has kept away from what its student is tested on."""
    found = needed(parse(content({"split.folds": 3})))
    assert found["vit-1"] == ["cnn-1"]
    assert found["cnn-1"] == ["cnn-1"]  # its own, trained before all others
    assert found["hybrid-1"] == []
    every = needed(parse(content({"models.vit.train": {"teacher": "cnn", "teacher_replicates": "all"}})))
    assert every["vit-1"] == ["cnn-0", "cnn-1", "cnn-2"]


def test_all_may_be_taught_but_the_teacher() -> None:
    found = needed(
        parse(content({"train.teacher": "cnn", "models.cnn.train": {"teacher": None}, "models.vit.train": {}}))
    )
    assert (found["vit-2"], found["hybrid-0"]) == (["cnn-2"], ["cnn-0"])
