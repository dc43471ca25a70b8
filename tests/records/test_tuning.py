"""Which trial is chosen: by validation, within the budget."""

import dataclasses
from pathlib import Path

import pytest

from pipeline.base.errors import StageError
from pipeline.records.diary import Machine
from pipeline.records.tuning import NOT_TUNED, TrialResult, Tuning, choose, ranked

MACHINE = Machine("cpu", "a processor", 1, "fp32", "3.11", "2.11", "1.0")


def trial(number: int, score: float | None, model: str = "cnn", seconds: float = 10.0) -> TrialResult:
    return TrialResult(
        model, number, 7, {"train.lr": number}, "key", score, 1, [score], seconds, 1000, 2_000_000, MACHINE, "nan"
    )


def test_the_highest_validation_score_is_chosen_and_the_first_of_equals() -> None:
    found = choose([trial(0, 0.5), trial(1, 0.9), trial(2, None), trial(3, 0.9), trial(0, 0.1, "vit")])
    assert found.chosen == {"cnn": 1, "vit": 0}
    assert found.best("cnn").settings == {"train.lr": 1}
    assert [each.trial for each in found.of("cnn")] == [0, 1, 2, 3]


def test_trials_that_all_diverged_choose_nothing() -> None:
    with pytest.raises(StageError, match=r"choose: all 2 trials of cnn diverged \(nan\); narrow tune\.space"):
        choose([trial(0, None), trial(1, None)])


@pytest.mark.parametrize(("seconds", "counted"), [(None, [3, 1, 2]), (25.0, [3, 1]), (30.0, [3, 1, 2]), (1.0, [3])])
def test_only_trials_within_the_budget_of_seconds_count_in_their_order(
    seconds: float | None, counted: list[int]
) -> None:
    found = choose([trial(3, 0.1), trial(1, 0.2), trial(2, 0.3)], seconds)
    assert found.counted == {"cnn": counted}
    assert found.chosen == {"cnn": max(counted, key=lambda number: {3: 0.1, 1: 0.2, 2: 0.3}[number])}


def test_training_costs_three_forward_passes_of_every_image() -> None:
    assert trial(0, 0.5).training_flops == 3 * 2_000_000 * 1000


def test_a_record_reads_as_it_was_written_and_an_older_study_has_none(tmp_path: Path) -> None:
    assert Tuning.read(tmp_path / "tuning.json") == NOT_TUNED
    found = choose([trial(0, 0.5), trial(1, None)])
    found.write(tmp_path / "tuning.json")
    assert dataclasses.asdict(Tuning.read(tmp_path / "tuning.json"))["chosen"] == {"cnn": 0}
    assert [dataclasses.asdict(each) for each in Tuning.read(tmp_path / "tuning.json").trials] == [
        dataclasses.asdict(each) for each in found.trials
    ]


def test_where_trials_were_short_the_finalists_choose() -> None:
    short = [trial(0, 0.5), trial(1, 0.9), trial(2, 0.8)]
    found = choose(short, finals=[trial(1, 0.91), trial(2, 0.95)])
    assert found.chosen == {"cnn": 2}
    assert found.best("cnn").val_macro_f1 == 0.95
    assert [each.trial for each in ranked(short)] == [1, 2, 0]
