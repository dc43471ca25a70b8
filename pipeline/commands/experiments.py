"""`versus experiments`: what each experiment of the last commit changed, and its validation scores, 120 columns wide.

A line for each model that the changes can have changed; `dvc exp show` has all that there is, in hundreds of columns.
"""

import argparse
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.scoring.ablation import Experiment

SUMMARY = "List the study's experiments: what changed, and the validation score with its interval"
EXAMPLE = "versus experiments"
INTERRUPTED = "nothing was changed"
LEAST = 30  # characters of a line that are left for what changed, however long names are
HEADER = ("Experiment", "Model", "val_macro_f1", "n", "Changed")


def arguments(_parser: argparse.ArgumentParser) -> None:
    """It takes none."""


def run(_given: argparse.Namespace) -> None:
    from pipeline.report import experiments
    from pipeline.report.words import counted

    base, finished, failed = experiments.read(experiments.show())
    print("\n".join(lines(base, finished)))
    said = f"{counted(len(finished), 'experiment')} of the last commit, {failed} without a result"
    print(f"\n{said}. val_macro_f1 has its 95% interval; `versus ablation` compares.")


def lines(base: "Experiment", finished: Sequence["Experiment"]) -> list[str]:
    """The table, as wide as a terminal; what has no room goes on in the next line."""
    import textwrap

    from pipeline.base.errors import shown
    from pipeline.base.lines import WIDTH

    rows = [HEADER, *entries(base, finished)]
    names, models, scores, numbers, _ = ([shown(cell, 32) for cell in column] for column in zip(*rows, strict=True))
    widths = [max(map(len, column)) for column in (names, models, scores, numbers)]
    room = max(WIDTH - sum(widths) - 2 * len(widths), LEAST)
    found = []
    for *cells, changed in zip(names, models, scores, numbers, [row[-1] for row in rows], strict=True):
        for part in textwrap.wrap(shown(changed, 10_000), room, break_on_hyphens=False) or [""]:
            padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=True)]
            found.append("  ".join([*padded, part]).rstrip())
            cells = [""] * len(cells)
    return [found[0], "─" * max(map(len, found)), *found[1:]]


def entries(base: "Experiment", finished: Sequence["Experiment"]) -> Iterator[tuple[str, ...]]:
    """The cells of the commit and of each experiment, a row for each model that it can have changed."""
    from pipeline.report.words import mean_and_interval
    from pipeline.scoring.ablation import as_given, score, touches, validation

    for each in [base, *finished]:
        changed = {} if each is base else each.changed
        touched = [
            model for model in each.models if each is base or any(touches(key, model, each.settings) for key in changed)
        ]
        text = " ".join(f"{key}={as_given(value)}" for key, value in changed.items()) or "nothing"
        for model in touched or [""]:
            cells = ("", "")
            if model:
                found = score(validation(each.models[model]))
                cells = (mean_and_interval(*found.numbers), str(found.n))
            yield each.name or "the commit", model, *cells, "as it is" if each is base else text
