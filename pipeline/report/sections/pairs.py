"""pairs: which differences hold, as a table, a matrix for many models, and the sentences that the report opens with."""

import math
from collections.abc import Sequence

import pandas as pd

from pipeline.base.quantities import enumerated
from pipeline.report.found import Found
from pipeline.report.section import Section
from pipeline.report.table import Table
from pipeline.report.words import DASH, few, p_equals, p_value, signed, signed_interval
from pipeline.scoring.draws import Draws
from pipeline.scoring.pairs import Difference, Pair, Verdict, best, threshold

FEW = 15  # pairs, of six models: more are shown as a matrix, and in full in the CSV only


def section(found: Found) -> Section | None:
    """None where there is one model."""
    if not found.pairs:
        return None
    replicates = found.replicates
    held = sentence(found.pairs, replicates)
    different = sum(pair.verdict != "not distinguishable" for pair in found.pairs)
    return Section(
        "Differences",
        {"held": held, "matrix": matrix(found.pairs, found.ranking) if len(found.pairs) > FEW else []},
        tables=(pairs_table(found.pairs, found.ranking, replicates, caption(found), found.covered),),
        lines=(held,),
        summary={"pairs": compact(found.pairs)},
        metrics={"pairs/different": different, "pairs/not_distinguishable": len(found.pairs) - different},
    )


def pairs_table(
    pairs: Sequence[Pair], ranked: Sequence[str], replicates: int, caption: str, covered: str = "seeds and test images"
) -> Table:
    """Every pair in the CSV; for reading every pair, or of more than 15 those of the best model, the best first."""
    shown = pairs if len(pairs) <= FEW else in_order(pairs, ranked)
    if len(shown) < len(pairs):
        caption += f" Shown: {ranked[0]}, whose mean macro-F1 is highest, beside every other; all pairs are in the CSV."
    header = (
        "Pair",
        "Macro-F1 difference",
        "p",
        "Verdict",
        "Accuracy difference",
        "p",
        "McNemar p",
        "Replicates needed",
    )
    return Table(
        "pairs", caption, frame(pairs, replicates, covered), header, tuple(cells(pair, replicates) for pair in shown)
    )


def frame(pairs: Sequence[Pair], replicates: int, covered: str) -> pd.DataFrame:
    rows = [
        {"model": pair.model, "other": pair.other, "verdict": pair.verdict}
        | {
            f"{name}_{title}": getattr(each, field)
            for name, each in pair.differences.items()
            for title, field in (
                ("difference", "value"),
                ("low", "low"),
                ("high", "high"),
                ("images_low", "images_low"),
                ("images_high", "images_high"),
                ("p", "p"),
                ("p_holm", "holm"),
                ("verdict", "verdict"),
                ("replicates_to_settle", "settled_by"),
                ("replicates_to_settle_at_least", "settled_from"),
            )
        }
        | {"mcnemar_p": pair.mcnemar, "mcnemar_p_holm": pair.mcnemar_holm}
        | {"n": replicates, "interval_over": covered if replicates > 1 else "test images"}
        for pair in pairs
    ]
    return pd.DataFrame(rows)


def cells(pair: Pair, replicates: int) -> tuple[str, ...]:
    macro, accuracy = pair.differences["macro_f1"], pair.differences["accuracy"]
    return (
        f"{pair.model} vs {pair.other}",
        difference(macro),
        p_value(macro.holm),
        pair.verdict,
        difference(accuracy),
        p_value(accuracy.holm),
        p_value(pair.mcnemar_holm),
        settled(macro, replicates),
    )


def caption(found: Found) -> str:
    over = f"mean scores over {found.first.n}" if found.replicates > 1 else found.first.n
    return f"{found.tested}: {over}. {rule(found.pairs, found.replicates, found.draws, folds=found.first.folds)}"


def rule(pairs: Sequence[Pair], replicates: int, draws: Draws | None = None, *, folds: bool = False) -> str:
    """What the numbers of the table are and how a verdict comes about, for a caption."""
    many = f"Holm-adjusted over {len(pairs)} pairs" if len(pairs) > 1 else "of one pair"
    verdict = f"p: {many}; the verdict is that on macro-F1, at 5%."
    exact = exact_test(1 if folds else replicates)
    if replicates == 1:
        return (
            "Verdicts on these weights, seeds not varied: another seed may turn them. 95% intervals, of each pair"
            f" alone, over test images (paired bootstrap). {verdict} {exact}."
        )
    if folds:
        return (
            "95% intervals, of each pair alone, over folds: Student t of the differences between models of one fold,"
            " their variance raised for the training images that folds share (Nadeau and Bengio 2003), and not narrower"
            f" than over test images (paired bootstrap). {verdict} {exact}."
        )
    if draws:
        return (
            f"95% intervals, of each pair alone, over seeds and {draws.splits} splits (Student t of the splits' mean"
            " differences, corrected for what their training images share: Nadeau and Bengio 2003) and test images"
            f" ({'among them' if draws.test else 'paired bootstrap'}). {verdict} {exact}; it knows nothing of other"
            " seeds and splits. How many replicates would settle a pair is not said where splits vary."
        )
    power = (
        f" With n = {replicates} a difference has to exceed {threshold(replicates, len(pairs)):.2g} standard deviations"
        " of a single seed's difference to be called: what is not distinguishable is not shown to be equal."
    )
    return (
        "95% intervals, of each pair alone, over seeds (Student t of the differences between trainings of one seed) and"
        f" test images (paired bootstrap). {verdict}{power if replicates <= 5 else ''} {exact}; it knows nothing of"
        " other seeds. Replicates needed to settle a pair: an order of magnitude, if the difference is as large as it"
        " looks; at best, if it is as large as its interval allows. Not by replicates: the test images limit it, and"
        " more of them are needed."
    )


def exact_test(tests: int) -> str:
    """What McNemar's p is of: one test, or as many as there are replicates."""
    asked = "McNemar's exact test asks of these weights which model names more images rightly"
    if tests == 1:
        return f"{asked} (accuracy, Holm-adjusted)"
    middle = math.ceil(tests / 2)
    which = "the median" if tests % 2 else "the smaller" if tests == 2 else "the lower of the two middle ones"
    return (
        f"{asked} (accuracy, not macro-F1), of the two trainings of each seed: p is {which} of these {tests} times"
        f" {tests / middle:.3g}, which holds though they share images (Rueger's rule), Holm-adjusted"
    )


def sentence(pairs: Sequence[Pair], replicates: int) -> str:
    """Of 105 pairs, 60 differ and 45 cannot be told apart. None of 3 pairs can be told apart. All 3 pairs differ."""
    held = sum(pair.verdict != "not distinguishable" for pair in pairs)
    left = len(pairs) - held
    if len(pairs) == 1:
        text = f"the two models {'differ' if held else 'cannot be told apart'}."
    elif held and left:
        text = f"of {len(pairs)} pairs, {held} differ{'s' * (held == 1)} and {left} cannot be told apart."
    else:
        text = f"all {len(pairs)} pairs differ." if held else f"none of {len(pairs)} pairs can be told apart."
    return text[0].upper() + text[1:] if replicates > 1 else f"On these weights, seeds not varied: {text}"


def against_the_rest(pairs: Sequence[Pair], ranked: Sequence[str], replicates: int) -> str:
    """it is better than vit (difference 0.1073, Holm-adjusted p = 0.017) and not distinguishable from hybrid (...)"""
    others = in_order(pairs, ranked)
    first = True

    def named(verdict: Verdict, word: str) -> str:
        nonlocal first
        texts = []
        for pair in (pair for pair in others if pair.verdict == verdict):
            macro = pair.differences["macro_f1"]
            numbers = f"{macro.value:.4f}, p {p_equals(macro.holm)}"
            if first:
                numbers = f"difference {macro.value:.4f}, Holm-adjusted p {p_equals(macro.holm)}"
            texts.append(f"{pair.other} ({numbers})")
            first = False
        return f"{word} {enumerated(few(texts))}" if texts else ""

    parts = [named("better", "better than"), named("not distinguishable", "not distinguishable from")]
    start = "it is" if replicates > 1 else "on these weights, seeds not varied, it is"
    return f"{start} {' and '.join(filter(None, parts))}"


def in_order(pairs: Sequence[Pair], ranked: Sequence[str]) -> list[Pair]:
    """The pairs of the first model of `ranked`, seen from it, in the order of the others."""
    return sorted(best(pairs, ranked[0]), key=lambda pair: ranked.index(pair.other))


def matrix(pairs: Sequence[Pair], ranked: Sequence[str]) -> list[tuple[str, list[tuple[str, str]]]]:
    """For each model, the best first, verdict and numbers beside each of them; empty texts beside itself."""
    rows = []
    for model in ranked:
        found = {pair.other: pair for pair in best(pairs, model)}
        row = [
            (found[other].verdict, f"{other}: {numbers(found[other].differences['macro_f1'])}")
            if other in found
            else ("", "")
            for other in ranked
        ]
        rows.append((model, row))
    return rows


def compact(pairs: Sequence[Pair]) -> list[dict[str, object]]:
    """What metrics.json has of them."""
    return [
        {"models": [pair.model, pair.other], "verdict": pair.verdict}
        | {
            name: {"difference": each.value, "low": each.low, "high": each.high, "p_holm": each.holm}
            for name, each in pair.differences.items()
        }
        for pair in pairs
    ]


def difference(found: Difference) -> str:
    """+0.1073 [+0.0821, +0.1325]"""
    return signed_interval(found.value, found.low, found.high)


def numbers(difference: Difference) -> str:
    return f"{signed(difference.value)}, p {p_equals(difference.holm)}"


def settled(difference: Difference, replicates: int) -> str:
    if difference.verdict != "not distinguishable":
        return DASH
    if replicates == 1:
        return "seeds not varied"
    if not difference.settled_by:
        return DASH
    likely, least = _number(difference.settled_by), _number(difference.settled_from)
    return likely if likely == least else f"{likely} (at best {least.removeprefix('about ')})"


def _number(settled: str) -> str:
    """20 -> about 20, >1000 -> more than 1,000, test images -> not by replicates"""
    if settled == "test images":
        return "not by replicates"
    return f"more than {int(settled[1:]):,}" if settled.startswith(">") else f"about {int(settled):,}"
