"""Trials: the same params.yaml draws the same ones, fit for every model alike."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import qmc

from pipeline.base.errors import StageError
from pipeline.params.read import load_params
from pipeline.params.settings import Dimension
from pipeline.params.study import Params
from pipeline.params.trials import DIGITS, by_trial, drawn, sequence, tuned_params
from tests import trees

SPACE = {"train.lr": {"log_uniform": [1e-4, 1e-2]}, "augment.strength": {"uniform": [0, 1.5]}}
ALL: dict[str, Any] = {"cnn": {}, "vit": {}, "hybrid": {}}
TUNE = {"trials": [0, 1, 2, 3, 4, 5, 6, 7], "models": ALL, "finalists": [], "space": SPACE}


def study(folder: Path, tune: dict[str, Any], **settings: Any) -> Params:
    return load_params(trees.study(folder, {"tune": tune, **settings}) / "params.yaml")


def test_the_same_settings_draw_the_same_trials_and_more_of_them_begin_alike(tmp_path: Path) -> None:
    first = drawn(study(tmp_path, TUNE), "cnn")
    assert drawn(study(tmp_path, TUNE), "cnn") == first
    assert drawn(study(tmp_path, {**TUNE, "trials": list(range(12))}), "cnn")[:8] == first
    assert drawn(study(tmp_path, {**TUNE, "trials": [5, 2]}), "cnn") == [first[5], first[2]]
    assert drawn(study(tmp_path, {**TUNE, "seed": 1}), "cnn") != first


def test_models_that_search_one_space_get_the_same_points_and_seeds(tmp_path: Path) -> None:
    params = study(tmp_path, {**TUNE, "models": {**ALL, "vit": {"dropout": {"choice": [0.0, 0.1]}}}})
    cnn, hybrid, vit = (drawn(params, name) for name in ("cnn", "hybrid", "vit"))
    assert [(each.settings, each.seed) for each in cnn] == [(each.settings, each.seed) for each in hybrid]
    assert [each.seed for each in vit] == [each.seed for each in cnn]
    assert [set(each.settings) for each in vit] == [{*SPACE, "dropout"}] * 8
    assert len({each.seed for each in cnn}) == 8


def test_a_family_or_a_model_may_search_more_and_elsewhere(tmp_path: Path) -> None:
    wider = {"timm": {"train.lr": {"uniform": [0.5, 0.6]}}}
    params = study(tmp_path, {**TUNE, "families": wider, "models": {**ALL, "vit": {"args.depth": {"integer": [2, 3]}}}})
    assert all(0.5 <= each.settings["train.lr"] <= 0.6 for name in ("cnn", "vit") for each in drawn(params, name))
    assert all(each.settings["train.lr"] <= 0.01 for each in drawn(params, "hybrid"))
    depths = [each.settings["args.depth"] for each in drawn(params, "vit")]
    assert set(depths) == {2, 3}
    assert params.having("vit", {"args.depth": 3}).network("vit")["args"] == {
        **params.network("vit")["args"],
        "depth": 3,
    }


@pytest.mark.parametrize("sampler", ["quasirandom", "random"])
def test_draws_fill_their_range_evenly_as_it_is_searched(sampler: str) -> None:
    space = {
        "rate": Dimension(log_uniform=(1e-4, 1e-2)),
        "share": Dimension(uniform=(0.25, 0.75)),
        "depth": Dimension(integer=(2, 5)),
        "loss": Dimension(choice=("focal", "cross_entropy", None)),
    }
    points = sequence(space, sampler, 0, 256)
    rates, shares = ([point[key] for point in points] for key in ("rate", "share"))
    assert all(1e-4 <= each <= 1e-2 for each in rates)
    assert abs(np.mean(np.log10(rates)) + 3) < 0.1
    assert abs(np.mean(shares) - 0.5) < 0.03
    for key, values in {"depth": [2, 3, 4, 5], "loss": ["focal", "cross_entropy", None]}.items():
        counts = [sum(point[key] == value for point in points) for value in values]
        assert sum(counts) == 256
        assert min(counts) > 0.7 * 256 / len(values)
    assert all(float(f"{each:.{DIGITS}g}") == each for each in rates)


def test_quasirandom_points_lie_more_evenly_than_independent_ones() -> None:
    space = {"a": Dimension(uniform=(0.0, 1.0)), "b": Dimension(uniform=(0.0, 1.0))}

    def unevenness(sampler: str) -> float:
        every = [np.array([list(each.values()) for each in sequence(space, sampler, seed, 16)]) for seed in range(5)]
        return float(np.mean([qmc.discrepancy(points) for points in every]))

    assert unevenness("quasirandom") < 0.3 * unevenness("random")


def test_a_model_with_its_own_settings_leaves_the_others_as_they_are(tmp_path: Path) -> None:
    params = study(tmp_path, {"trials": [], "models": {}, "finalists": []})
    changed = params.having("vit", {"train.lr": 0.5, "augment.flip": True, "drop_path": 0.1})
    assert (changed.model_train("vit").lr, changed.models["vit"].drop_path) == (0.5, 0.1)  # type: ignore[union-attr]
    assert changed.models["cnn"] == params.models["cnn"]
    assert params.model_train("vit").lr == 0.001
    with pytest.raises(StageError, match=r"params\.yaml: models\.vit\.train\.lr: got -1; wanted greater than 0"):
        params.having("vit", {"train.lr": -1}).model_train("vit")


def test_what_was_chosen_is_what_is_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study(tmp_path, {**TUNE, "models": {"cnn": {}, "vit": {}}})
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StageError, match=r"data/chosen/cnn\.json: not there or not JSON; run `dvc repro choose`"):
        tuned_params()
    for name in ("cnn", "vit", "hybrid"):
        trees.put(tmp_path / f"data/chosen/{name}.json", b'{"train.lr": 0.004}')
    found = tuned_params()
    assert [found.model_train(name).lr for name in found.models] == [0.004, 0.004, 0.001]


@pytest.mark.parametrize(
    ("tune", "settings", "fault"),
    [
        ({"trials": [1, 1]}, {}, r"tune\.trials: \[1, 1\] names one twice"),
        ({"trials": [0], "space": {}}, {}, r"tune\.space: empty for cnn; name settings, such as train\.lr: \{log_un"),
        ({"space": {"train.lrr": {"uniform": [0, 1]}}}, {}, r"train\.lrr: unknown setting; did you mean lr\?"),
        ({"space": {"training.lr": {"uniform": [0, 1]}}}, {}, r"training\.lr: unknown setting; wanted a key of"),
        ({"space": {"train.epochs": {"integer": [1, 9]}}}, {}, r"train\.epochs: no trial can change it: every tri"),
        ({"space": {"train.lr": {}}}, {}, r"train\.lr: has none of them; give one of uniform, log_uniform, integer"),
        ({"space": {"train.lr": {"uniform": [0, 1], "choice": [1]}}}, {}, r"train\.lr: has uniform and choice tog"),
        ({"space": {"train.lr": {"uniform": [1, 0.1]}}}, {}, r"lr\.uniform: got \[1\.0, 0\.1\]; wanted a lower end"),
        ({"space": {"train.lr": {"log_uniform": [0, 1]}}}, {}, r"lr\.log_uniform: got \[0\.0, 1\.0\]; wanted ends"),
        ({"space": {"augment.strength": {"uniform": [0, 9]}}}, {}, r"augment\.strength: got 9\.0; wanted less than"),
        ({"space": {"drop_path": {"choice": [2]}}}, {}, r"models\.cnn\.drop_path: got 2; wanted less than 1"),
        ({"models": {"resnet": {}}}, {}, r"tune\.models\.resnet: no such model; choose from cnn, vit, hybrid"),
        ({"families": {"resnet": {}}}, {}, r"tune\.families\.resnet: no such family; choose from timm, hybrid"),
        ({}, {"split.folds": 3}, r"tune\.trials: with split\.folds, the images that one fold tests on train another"),
        (
            {},
            {"split.vary": "split"},
            r"tune\.trials: with split\.vary: split, the images that one replicate tests on train",
        ),
        ({"finalists": [8]}, {}, r"tune\.finalists: 8 is no rank among 8 trials; the best has rank 0"),
        ({"finalists": [0], "short_epochs": 25}, {}, r"tune\.short_epochs: 25 is not shorter than cnn's 25"),
        ({"models": {}}, {}, r"tune\.models: empty, though there are trials; name the models .* \{cnn: \{\}, vit"),
    ],
    ids=str,
)
def test_what_cannot_be_tried_is_refused_before_anything_runs(
    tune: dict[str, Any], settings: dict[str, Any], fault: str, tmp_path: Path
) -> None:
    with pytest.raises(StageError, match=fault):
        study(tmp_path, {**TUNE, **tune}, **settings)


def test_a_point_that_a_model_cannot_take_is_refused_by_its_number(tmp_path: Path) -> None:
    """Each end is in order, their meeting is not: 90 does not divide by 4."""
    space = {"dim": {"choice": [96, 90]}, "heads": {"choice": [3, 4]}}
    params = study(tmp_path, {**TUNE, "trials": list(range(16)), "models": {"hybrid": space}})
    with pytest.raises(StageError, match=r"params\.yaml: tune: trial \d+: models\.hybrid\.heads: 4 does not divide"):
        drawn(params, "hybrid")
    assert math.prod((96 % 3, 96 % 4, 90 % 3)) == 0


def test_short_trials_warm_up_for_the_same_share_of_their_epochs(tmp_path: Path) -> None:
    params = study(tmp_path, {**TUNE, "finalists": [0, 1], "short_epochs": 9})
    short = by_trial(params, drawn(params, "cnn")[0]).model_train("cnn")
    assert (short.epochs, short.warmup_epochs) == (9, 1)
    assert (params.model_train("cnn").epochs, params.model_train("cnn").warmup_epochs) == (25, 3)
