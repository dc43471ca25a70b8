"""What the table of inflation says of its intervals."""

from types import SimpleNamespace

import pytest

from pipeline.report.sections import inflation
from pipeline.scoring.intervals import Interval

NAMES = [f"{score}{part}" for score in ("accuracy", "macro_f1") for part in ("", "_on_test", "_gap")]


@pytest.mark.parametrize(
    ("replicates", "told", "untold"),
    [
        (5, ["over n = 5 folds (corrected)", "over folds alone"], "without"),
        (1, ["n = 1 replicate, without"], "alone"),
    ],
)
def test_folds_have_intervals_and_one_replicate_has_none(
    replicates: int, told: list[str], untold: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = dict.fromkeys(NAMES, Interval(0.9, 0.8, 0.95, replicates, "replicates"))
    monkeypatch.setattr(inflation, "inflated", lambda _: scores)
    found = SimpleNamespace(
        models=(SimpleNamespace(name="cnn"),),
        tested="Digits",
        basis="95% intervals over n = 5 folds (corrected)",
        taken_over=f"n = {replicates} {'folds' if replicates > 1 else 'replicate'}, without intervals",
        replicates=replicates,
        unit="fold",
    )
    section = inflation.section(found)  # type: ignore[arg-type]
    assert section is not None
    caption = section.tables[0].caption
    assert all(text in caption for text in told)
    assert untold not in caption
