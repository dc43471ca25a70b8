"""Models over data sets, as tables, a figure and a verdict in words: what `versus summary` leaves."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pipeline.report.drawing import GHOST, INK, colours, style
from pipeline.report.protocols import Score, StudyResults
from pipeline.report.section import Section
from pipeline.report.table import Table
from pipeline.report.words import SCORE_TITLES, counted, mean_and_interval, p_equals, p_value, signed
from pipeline.scoring.ranks import RankPair, Ranks, compared

FOLDER = Path("reports/summary")


def summary(studies: Sequence[StudyResults], models: Sequence[str], metric: str) -> Section:
    """Every model's mean score on each study's data set, mean ranks, and what they say."""
    scores = np.array([[each.score(model, metric).mean for model in models] for each in studies])
    ranks = compared(models, scores)
    tables = [scores_table(studies, ranks, metric)]
    if ranks.enough:
        tables.append(pairs_table(ranks, metric))
    figures = {"ranks": ranks_figure(ranks)}
    return Section(SCORE_TITLES[metric], tables=tuple(tables), figures=figures, lines=tuple(verdict(ranks)))


def scores_table(studies: Sequence[StudyResults], ranks: Ranks, metric: str) -> Table:
    """A line for each data set and a column for each model; the last line has the mean ranks."""
    rows, cells = [], []
    for each in studies:
        found = {model: each.score(model, metric) for model in ranks.models}
        n = found[ranks.models[0]].n
        rows += [
            {"study": each.name, "data set": each.title, "model": model, **vars(score)}
            for model, score in found.items()
        ]
        cells.append((each.title, *(interval(score) for score in found.values()), str(n)))
    cells.append(("Mean rank", *(f"{mean:.2f}" for mean in ranks.means), counted(len(studies), "data set")))
    caption = (
        f"{SCORE_TITLES[metric]} on the test images of each data set, means with the 95% intervals of each"
        f" study's report, and n replicates ({studies[0].repeats}). Ranks: 1 is the best. {' '.join(verdict(ranks))}"
    )
    header = ("Data set", *ranks.models, "n")
    return Table("summary", caption, pd.DataFrame(rows), header, tuple(cells), rules=(len(studies),))


def interval(score: Score) -> str:
    """0.9313 [0.9201, 0.9424]; the mean alone where it has no interval"""
    return mean_and_interval(score.mean, *(math.nan if end is None else end for end in (score.low, score.high)))


def pairs_table(ranks: Ranks, metric: str) -> Table:
    """Every pair of models by Wilcoxon's signed-rank test over data sets."""
    caption = (
        f"{SCORE_TITLES[metric]} over {counted(len(ranks.scores), 'data set')}: of each pair how often the first is"
        " ahead, level and behind, the median difference, and p of Wilcoxon's signed-rank test, Holm-adjusted over"
        f" {len(ranks.pairs)} pair{'s' * (len(ranks.pairs) > 1)} (Benavoli et al. 2016). A data set counts once."
    )
    header = ("Pair", "Ahead, level, behind", "Median difference", "p", "Verdict")
    cells = tuple(
        (
            f"{pair.model} vs {pair.other}",
            f"{pair.wins}, {pair.ties}, {pair.losses}",
            signed(pair.median),
            p_value(pair.holm),
            pair.verdict,
        )
        for pair in ranks.pairs
    )
    return Table("pairs", caption, pd.DataFrame([vars(pair) for pair in ranks.pairs]), header, cells)


def verdict(ranks: Ranks) -> list[str]:
    """Sentences: what the data sets allow to say of the models."""
    sets, models = counted(len(ranks.scores), "data set"), len(ranks.models)
    if not ranks.enough:
        return [
            f"Too few data sets to say which model is better: {sets}, where {models} models take at least"
            f" {ranks.needed}, did all of them agree."
        ]
    apart = [pair for pair in ranks.pairs if pair.verdict != "not distinguishable"]
    lines = [f"Of {len(ranks.pairs)} pairs, {len(apart)} differ over {sets}{listed(apart)}."]
    if not math.isnan(ranks.friedman):
        lines.append(f"Friedman's test of all models being equal: p {p_equals(ranks.friedman)}.")
    return [*lines, f"Critical difference of mean ranks (Nemenyi, 5%): {ranks.critical:.2f}."]


def listed(pairs: Sequence[RankPair]) -> str:
    """: cnn is better than vit, Holm-adjusted p = 0.031; empty where there are none."""
    texts = []
    for pair in pairs:
        better, worse = (pair.model, pair.other) if pair.verdict == "better" else (pair.other, pair.model)
        texts.append(f"{better} is better than {worse}, Holm-adjusted p {p_equals(pair.holm)}")
    return f": {'; '.join(texts)}" if texts else ""


@style()
def ranks_figure(ranks: Ranks) -> Figure:
    """Mean ranks, the best on top, each with half a critical difference to either side if there are enough data sets.

    Models whose bars overlap cannot be told apart by Nemenyi's test.
    """
    order = np.argsort(-ranks.means, kind="stable")
    tones = colours(ranks.models)
    figure = Figure(figsize=(6.0, 1.1 + 0.4 * len(order)), layout="constrained")
    panel = figure.subplots()
    for place, index in enumerate(order):
        mean, model = ranks.means[index], ranks.models[index]
        if ranks.enough:
            panel.hlines(place, mean - ranks.critical / 2, mean + ranks.critical / 2, color=GHOST, linewidth=5)
        panel.plot(mean, place, marker="o", color=tones[model], markersize=8)
        panel.annotate(f"{mean:.2f}", (mean, place), (0, 7), textcoords="offset points", ha="center", color=INK)
    panel.set_yticks(range(len(order)), [ranks.models[index] for index in order])
    panel.set(xlabel="mean rank", xlim=(0.5, len(order) + 0.5), ylim=(-0.6, len(order) - 0.2))
    return figure
