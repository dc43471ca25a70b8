"""Tables, figures, metrics.json and the report page, from what the other stages left in reports/.

Only models and replicates in params.yaml are reported, and only if they were trained by its settings: files of removed
ones are left alone and named. Nothing is computed from images or weights here, so that a report can be rendered anew
wherever reports/ is.
"""

import contextlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.base.files import write_json, written_whole
from pipeline.base.places import study
from pipeline.base.process import run
from pipeline.params.read import load_params
from pipeline.report import cards, drawing, page, words
from pipeline.report.results import (
    OF_DOCTOR,
    OF_SPLIT,
    REPORTS,
    SPLITS,
    Model,
    missing,
    read_explanations,
    read_json,
    read_latency,
    read_model,
    refuse_other_settings,
)
from pipeline.report.sections import (
    calibration,
    comparison,
    confusion,
    cost,
    learning,
    metrics,
    pairs,
    scorecard,
    training,
)
from pipeline.report.sections.calibration import calibration_scores, calibration_table
from pipeline.report.sections.classes import class_intervals, class_scores_figure, classification
from pipeline.report.sections.comparison import comparison_caption, line, terminal
from pipeline.report.sections.cost import latency_table, trade_off
from pipeline.report.sections.data import class_distribution_figure
from pipeline.report.sections.inflation import inflation_table
from pipeline.report.sections.learning import learning_curves
from pipeline.report.sections.pairs import compare_pairs, pairs_table
from pipeline.report.sections.scorecard import compare, scorecard_caption
from pipeline.report.table import markdown, write
from pipeline.scoring import curves, intervals, published
from pipeline.scoring.calibration import reliability, selective_accuracy
from pipeline.trained import leftovers


def main() -> None:
    settings = load_params()
    data = {"shareable": False, **read_json(REPORTS / "data.json", "split", *OF_SPLIT)}
    picture = REPORTS / "augmentation.png"
    if not picture.exists():
        raise missing(picture, "preview")
    rounds = read_latency(list(settings.models))
    models = [read_model(name, settings.replicates, data, rounds[name]) for name in settings.models]
    for model in models:
        refuse_other_settings(settings, model.name, model.evaluations, data)
    checkup = read_json(REPORTS / "doctor.json", "doctor", *OF_DOCTOR)
    tested_pairs = compare_pairs(models, data)
    summary: dict[str, Any] = {"study": study(), "models": {model.name: headline(model) for model in models}}
    held = pairs.sentence(tested_pairs, models[0].runs) if tested_pairs else ""
    if tested_pairs:
        summary["pairs"] = pairs.compact(tested_pairs)
    overview = comparison.comparison_table([line(model) for model in models], comparison_caption(models, data))
    timed = latency_table(models, data)
    reports = [classification(model, data) for model in models]
    verdict = pairs_table(tested_pairs, models, data) if tested_pairs else None
    trusted = {model.name: calibration_scores(model) for model in models}
    believed = calibration_table(models, trusted, data)
    inflated = inflation_table(models, data)
    measured = metrics.metrics_table({model.name: model.measures for model in models}, comparison_caption(models, data))
    learnt = learning_curves(models)
    lines = compare(settings, data, models)
    card = scorecard.scorecard_table(lines, scorecard_caption(lines, models, data)) if lines else None
    shown = read_explanations(list(settings.models))

    with contextlib.ExitStack() as stack:  # all outputs appear when the block ends, or none
        outputs = [stack.enter_context(written_whole(REPORTS / name)) for name in ("figures", "tables", "cards")]
        document, numbers = (
            stack.enter_context(written_whole(REPORTS / name)) for name in ("report.html", "metrics.json")
        )
        for folder in outputs:
            folder.mkdir()
        drawn = draw(models, data, learnt, outputs[0])
        for model in models:
            text = cards.card(model.evaluations, model.scores, {**data, "study": study()})
            (outputs[2] / f"{model.name}.md").write_text(text, encoding="utf-8")
        for table in filter(None, (overview, timed, verdict, believed, inflated, measured, *reports, card)):
            write(table, outputs[1])
        html = page.render(
            settings=settings,
            data=data,
            models=models,
            overview=overview,
            timed=timed,
            tested_pairs=tested_pairs,
            held=held,
            verdict=verdict,
            lines=lines,
            card=card,
            reports=reports,
            believed=believed,
            inflated=inflated,
            explanations=shown,
            checkup=checkup,
            drawn=drawn,
            augmentation=picture,
            learnt=learnt,
        )
        document.write_text(html, encoding="utf-8")
        write_json(numbers, summary)

    from pipeline.tracking.runs import report_run  # late: it imports mlflow, and a fault above should not wait for that

    with report_run() as tracked:
        tracked.metrics(
            {
                f"{model.name}/{name}{suffix}": getattr(interval, field)
                for model in models
                for name, interval in model.scores.items()
                for suffix, field in (("", "mean"), ("_low", "low"), ("_high", "high"))
            }
        )
        tracked.metrics(
            {
                f"{model}/{name}": interval.mean
                for model, values in trusted.items()
                for name, interval in values.items()
                if name != "accuracy" and not math.isnan(interval.mean)
            }
        )
        if tested_pairs:
            different = sum(pair.verdict != "not distinguishable" for pair in tested_pairs)
            tracked.metrics({"pairs/different": different, "pairs/not_distinguishable": len(tested_pairs) - different})
        if lines:
            tracked.metrics({f"scorecard/{name}": count for name, count in published.counts(lines).items()})
        for name in ("tables", "figures", "cards"):
            tracked.artifact(REPORTS / name, name)
        tracked.artifact(REPORTS / "report.html")
        tracked.summarise(f"{held}\n\n{markdown(overview)}".strip()[:4000])
        if chosen := best(models):
            tracked.champion(chosen)
    print(terminal(models))
    for text in curves.sentences(learnt):
        print(text)
    if held:
        print(held)
    if lines:
        print(f"{scorecard.sentence(lines)} {published.other_images(data['variant'])}".strip())
    if left := leftovers.told(settings):
        print(left)
    print(f"report: {REPORTS / 'report.html'}")


# numbers, tables, figures


def headline(model: Model) -> dict[str, Any]:
    """One model's entry in metrics.json, in the order of columns of `dvc exp show`: first what is to be chosen by."""
    further = {name: each for name, each in model.measures.items() if name not in model.scores}
    first = model.evaluations[0]
    return {
        **selected(model),
        **{name: entry(each) for name, each in {**model.scores, **further}.items()},
        **{key: first["cost"][key] for key in ("parameters", "flops", "weight_bytes")},
        "train_seconds": float(np.mean(model.train_seconds)),
        "images": len(model.actual),
    }


def selected(model: Model) -> dict[str, dict[str, float]]:
    """Validation macro-F1 of the epochs that were evaluated: what settings are to be chosen by, not the test scores.

    With an interval over replicates where there are several; it is too high by what the choice of the epoch gives.
    Nothing for a model that was trained on the validation images too.
    """
    values = [evaluation["selected"]["val_macro_f1"] for evaluation in model.evaluations]
    if None in values:
        return {}
    return {
        "val_macro_f1": {"mean": values[0], "n": 1} if len(values) == 1 else entry(intervals.over_replicates(values))
    }


def entry(interval: intervals.Interval) -> dict[str, float]:
    """An interval as metrics.json has it."""
    return {"mean": interval.mean, "low": interval.low, "high": interval.high, "n": interval.n}


def best(models: Sequence[Model]) -> dict[str, Any] | None:
    """The evaluation of the training with the highest validation macro-F1; of equals, the first of params.yaml.

    None where no training has a validation score.
    """
    every = [evaluation for model in models for evaluation in model.evaluations]
    scored = [evaluation for evaluation in every if evaluation["selected"]["val_macro_f1"] is not None]
    return max(scored, key=lambda evaluation: evaluation["selected"]["val_macro_f1"], default=None)


def draw(models: Sequence[Model], data: Mapping[str, Any], learnt: curves.Curves, folder: Path) -> dict[str, Path]:
    """Every figure into `folder`; returns their files by name."""
    classes = [each["class"] for each in data["classes"]]
    counts = {title: [each[split] for each in data["classes"]] for split, title in SPLITS.items()}
    histories = {model.name: model.histories for model in models}
    selected = {
        model.name: [(each["selected"]["epoch"], each["selected"]["val_macro_f1"]) for each in model.evaluations]
        for model in models
    }
    drawn = {
        "class_distribution": class_distribution_figure(classes, counts, data["minority"]),
        "confusion_matrices": confusion.confusion_matrices_figure(
            {model.name: model.confusions.sum(0) for model in models}, classes
        ),
        "validation_macro_f1": training.validation_macro_f1_figure(histories, selected),
        "training_curves": training.training_curves_figure(histories),
        "error_curves": training.error_curves_figure(histories),
        "metrics": metrics.metric_chart_figure(
            {
                model.name: {
                    words.MEASURE_TITLES[name]: (each.mean, each.low, each.high)
                    for name, each in model.measures.items()
                }
                for model in models
            }
        ),
    }
    if learnt:
        drawn["learning_curves"] = learning.learning_curves_figure(
            {
                name: [(point.images, point.score.mean, point.score.low, point.score.high) for point in points]
                for name, points in learnt.items()
            }
        )
    runs = {model.name: list(zip(model.confidence, model.predicted == model.actual, strict=True)) for model in models}
    drawn["reliability"] = calibration.reliability_figure(
        {name: [reliability(*run) for run in each] for name, each in runs.items()}
    )
    coverage = np.arange(1, 101) / 100
    drawn["selective_prediction"] = calibration.selective_prediction_figure(
        coverage,
        {name: np.array([selective_accuracy(*run, coverage) for run in each]) for name, each in runs.items()},
    )
    drawn["class_scores"] = class_scores_figure({model.name: class_intervals(model) for model in models}, classes)
    drawn["trade_off"] = trade_off(models)
    if all(model.cpu_seconds for model in models):
        drawn["latency"] = cost.latency_figure({model.name: model.cpu_seconds for model in models})
    for name, figure in drawn.items():
        drawing.save(figure, folder, name)
    return {name: folder / f"{name}.svg" for name in drawn}


if __name__ == "__main__":
    run(main)
