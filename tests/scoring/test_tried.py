"""What was tried beside the commit's own settings: differences by seed, corrected, and the luck of the best."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from pipeline.records.predictions import Predictions
from pipeline.report import experiments
from pipeline.report.ablation import too_high
from pipeline.scoring import pairs
from pipeline.scoring.ablation import Experiment
from pipeline.scoring.tried import Change, compare, corrected, excess, highest_of, on_test, on_validation
from tests import fake_study, repo


def test_the_expected_best_of_normal_draws_is_harters() -> None:
    """Harter (1961), "Expected values of normal order statistics", Biometrika 48, table 1."""
    found = [highest_of(number) for number in (1, 2, 3, 5, 10, 100)]
    assert found == pytest.approx([0, 0.56419, 0.84628, 1.16296, 1.53875, 2.50759], abs=2e-5)


def test_choosing_among_equal_settings_adds_what_is_said() -> None:
    """Six equal settings, 3 seeds whose luck they share in part: the best's score above its worth, 4,000 studies."""
    rng = np.random.default_rng(0)
    shared = rng.normal(0, 0.02, (4000, 1, 3))
    scores = 0.9 + shared + rng.normal(0, 0.01, (4000, 6, 3))
    truth = (scores.mean(2).max(1) - 0.9).mean()
    said = np.mean([excess(list(study[1:] - study[0])) for study in scores])
    assert said == pytest.approx(truth, rel=0.05)
    assert math.isnan(excess([np.array([0.1])]))


def test_a_validation_difference_is_a_paired_t_test() -> None:
    ours, own = np.array([0.91, 0.93, 0.92, 0.95]), np.array([0.90, 0.90, 0.91, 0.92])
    found, wanted = on_validation(math.nan, ours - own), stats.ttest_rel(ours, own)
    assert (found.value, found.p) == pytest.approx((0.02, wanted.pvalue))
    assert (found.low, found.high) == pytest.approx(tuple(wanted.confidence_interval()))
    assert math.isnan(on_validation(0.1, np.array([0.1])).p)
    assert math.isnan(on_validation(0.1, np.array([0.1, 0.1])).p)  # no spread is no certainty


def test_each_p_is_corrected_for_all_that_have_one() -> None:
    found = corrected([Change(0, p=0.01), Change(0), Change(0, p=0.04), Change(0, p=0.03)])
    assert [each.holm for each in found] == pytest.approx([0.03, math.nan, 0.06, 0.06], nan_ok=True)


@pytest.fixture
def two_commits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """The names of a commit of a made-up study and of one in which cnn was trained otherwise."""
    fake_study.write(tmp_path, ["cnn", "vit"], [0, 1, 2])
    repo.call(tmp_path, "git", "init", "--quiet")
    repo.commit(tmp_path)
    own = repo.call(tmp_path, "git", "rev-parse", "HEAD").strip()
    fake_study.write(tmp_path, ["cnn", "vit"], [0, 1, 2], seed=1)
    for path in tmp_path.glob("reports/evaluations/*.json"):
        content = json.loads(path.read_text())
        content["selected"]["val_macro_f1"] += 0.01 * (1 + content["replicate"])
        path.write_text(json.dumps(content))
    repo.commit(tmp_path)
    monkeypatch.chdir(tmp_path)
    return own, repo.call(tmp_path, "git", "rev-parse", "HEAD").strip()


def test_results_of_an_experiment_are_read_from_git_and_compared_seed_by_seed(two_commits: tuple[str, str]) -> None:
    own, other = two_commits
    before, after = experiments.replicates(own)["cnn"], experiments.replicates(other)["cnn"]
    assert list(before) == [0, 1, 2]
    scores = {"cnn": {"macro_f1": {"mean": 0.9, "n": 3}, "val_macro_f1": {"mean": 0.9, "n": 3}}}
    base = Experiment("", {"models.cnn.width": 4}, scores, {}, own)
    wider = Experiment("wide", {"models.cnn.width": 8}, scores, {}, other)
    comparison = compare(base, [wider], experiments.replicates)
    (found,) = comparison.every
    assert found.n == 3
    seeds = [after[seed].validation - before[seed].validation for seed in range(3)]  # type: ignore[operator]
    assert found.validation.value == pytest.approx(np.mean(seeds))
    assert found.validation.p == pytest.approx(stats.ttest_1samp(seeds, 0).pvalue)
    (line,) = too_high(comparison)
    assert "best of 2 validation scores" in line
    for settings in ({"split.folds": 5}, {"split.vary": "validation"}):
        drawn = Experiment("", base.changed, scores, settings, own)
        anew = Experiment("wide", wider.changed, scores, settings, own)
        for one, other_one in ((drawn, wider), (base, anew)):
            of_images = compare(one, [other_one], experiments.replicates).every[0]
            assert math.isnan(of_images.validation.p)
            assert math.isnan(of_images.test.p)
    start = Experiment("", {"split.seed": 0}, scores, {}, own)
    redrawn = Experiment("x", {"split.seed": 1}, scores, {}, other)
    assert math.isnan(compare(start, [redrawn], experiments.replicates).every[0].validation.p)  # on other images


def test_a_test_difference_is_the_pairs_own_on_the_same_images_and_none_on_others(two_commits: tuple[str, str]) -> None:
    found = experiments.replicates(two_commits[0])
    cnn, vit = found["cnn"], found["vit"]
    answers = [[each[seed].predictions for seed in range(3)] for each in (cnn, vit)]
    guesses = {str(row): np.array([each.predicted for each in row_of]) for row, row_of in enumerate(answers)}  # type: ignore[union-attr]
    first = Predictions.read(Path("reports/predictions/cnn-0.parquet"))
    actual = answers[0][0].actual  # type: ignore[union-attr]
    (pair,) = pairs.compare(actual, guesses, len(first.classes))
    wanted, change = pair.differences["macro_f1"], on_test(0.0, cnn, vit)
    assert (change.value, change.low, change.p) == pytest.approx((wanted.value, wanted.low, wanted.p))
    assert math.isnan(on_test(0.1, cnn, experiments.replicates(two_commits[1])["cnn"]).p)  # other images
    assert not experiments.replicates("no-such-revision")
