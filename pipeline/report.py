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
import numpy.typing as npt
from matplotlib.figure import Figure

from pipeline import (
    calibration,
    cards,
    figures,
    learning_curve,
    leftovers,
    metrics,
    page,
    pairs,
    params,
    scorecard,
    stats,
    tables,
    verdicts,
)
from pipeline.results import (
    OF_DOCTOR,
    OF_SPLIT,
    REPORTS,
    SPLITS,
    Trained,
    basis,
    caption_name,
    missing,
    other_images,
    overrides,
    places,
    ranking,
    read_explanations,
    read_json,
    read_latency,
    read_model,
    refuse_other_settings,
    tested,
    timed_on,
)
from pipeline.stage import run, study, whole, write_json


def main() -> None:
    settings = params.load()
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
    held = verdicts.sentence(tested_pairs, models[0].runs) if tested_pairs else ""
    if tested_pairs:
        summary["pairs"] = verdicts.compact(tested_pairs)
    overview = tables.comparison([line(model) for model in models], comparison_caption(models, data))
    timed = latency_table(models, data)
    reports = [classification(model, data) for model in models]
    verdict = pairs_table(tested_pairs, models, data) if tested_pairs else None
    trusted = {model.name: calibration_scores(model) for model in models}
    believed = calibration_table(models, trusted, data)
    inflated = inflation_table(models, data)
    measured = tables.metrics({model.name: model.measures for model in models}, comparison_caption(models, data))
    learnt = learning_curves(models)
    lines = compare(settings, data, models)
    card = scorecard.table(lines, scorecard_caption(lines, models, data)) if lines else None
    shown = read_explanations(list(settings.models))

    with contextlib.ExitStack() as stack:  # all outputs appear when the block ends, or none
        outputs = [stack.enter_context(whole(REPORTS / name)) for name in ("figures", "tables", "cards")]
        document, numbers = (stack.enter_context(whole(REPORTS / name)) for name in ("report.html", "metrics.json"))
        for folder in outputs:
            folder.mkdir()
        drawn = draw(models, data, learnt, outputs[0])
        for model in models:
            text = cards.card(model.evaluations, model.scores, {**data, "study": study()})
            (outputs[2] / f"{model.name}.md").write_text(text, encoding="utf-8")
        for table in filter(None, (overview, timed, verdict, believed, inflated, measured, *reports, card)):
            tables.write(table, outputs[1])
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

    from pipeline import tracking  # late: it imports mlflow, and a fault above should not wait for that

    with tracking.report_run() as tracked:
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
            tracked.metrics({f"scorecard/{name}": count for name, count in scorecard.counts(lines).items()})
        for name in ("tables", "figures", "cards"):
            tracked.artifact(REPORTS / name, name)
        tracked.artifact(REPORTS / "report.html")
        tracked.summarise(f"{held}\n\n{tables.markdown(overview)}".strip()[:4000])
        if chosen := best(models):
            tracked.champion(chosen)
    print(terminal(models))
    for text in learning_curve.sentences(learnt):
        print(text)
    if held:
        print(held)
    if lines:
        print(f"{scorecard.sentence(lines)} {scorecard.other_images(data['variant'])}".strip())
    if left := leftovers.told(settings):
        print(left)
    print(f"report: {REPORTS / 'report.html'}")


# numbers, tables, figures


def headline(model: Trained) -> dict[str, Any]:
    """One model's entry in metrics.json."""
    further = {name: each for name, each in model.measures.items() if name not in model.scores}
    first = model.evaluations[0]
    return {
        **{name: entry(each) for name, each in {**model.scores, **further}.items()},
        **selected(model),
        **{key: first["cost"][key] for key in ("parameters", "flops", "weight_bytes")},
        "train_seconds": float(np.mean(model.train_seconds)),
        "images": len(model.actual),
    }


def selected(model: Trained) -> dict[str, dict[str, float]]:
    """Validation macro-F1 of the epochs that were evaluated: what settings are to be chosen by, not the test scores.

    With an interval over replicates where there are several; it is too high by what the choice of the epoch gives.
    Nothing for a model that was trained on the validation images too.
    """
    values = [evaluation["selected"]["val_macro_f1"] for evaluation in model.evaluations]
    if None in values:
        return {}
    return {"val_macro_f1": {"mean": values[0], "n": 1} if len(values) == 1 else entry(stats.over_replicates(values))}


def entry(interval: stats.Interval) -> dict[str, float]:
    """An interval as metrics.json has it."""
    return {"mean": interval.mean, "low": interval.low, "high": interval.high, "n": interval.n}


def best(models: Sequence[Trained]) -> dict[str, Any] | None:
    """The evaluation of the training with the highest validation macro-F1; of equals, the first of params.yaml.

    None where no training has a validation score.
    """
    every = [evaluation for model in models for evaluation in model.evaluations]
    scored = [evaluation for evaluation in every if evaluation["selected"]["val_macro_f1"] is not None]
    return max(scored, key=lambda evaluation: evaluation["selected"]["val_macro_f1"], default=None)


def line(model: Trained) -> tables.Line:
    first = model.evaluations[0]
    return tables.Line(
        model=model.name,
        scores=model.scores,
        parameters=first["cost"]["parameters"],
        flops=first["cost"]["flops"],
        weight_bytes=first["cost"]["weight_bytes"],
        train_seconds=float(np.mean(model.train_seconds)),
        initialisation=first["initialisation"],
        overrides=overrides(model),
    )


def comparison_caption(models: Sequence[Trained], data: Mapping[str, Any]) -> str:
    scores = "mean scores" if len(models[0].evaluations) > 1 else "scores"
    return f"{tested(models, data)}: {scores} with {basis(models)}. Trained on {places(models)}."


def compare(settings: params.Params, data: Mapping[str, Any], models: Sequence[Trained]) -> list[scorecard.Line]:
    """The numbers published for this data set, beside ours."""
    named = {
        row.model or table.model
        for table in settings.published
        if table.dataset == data["dataset"]
        for row in table.rows.values()
    }
    results = {
        model.name: scorecard.result(
            model.confusions, model.costs, model.cpu_seconds, "rounds" if model.rounds else "replicates"
        )
        for model in models
        if model.name in named
    }
    classes = [each["class"] for each in data["classes"]]
    images = len(models[0].actual)
    return scorecard.compare(settings.published, data["dataset"], results, classes, images, lacking(models, data))


def lacking(models: Sequence[Trained], data: Mapping[str, Any]) -> int:
    """How many published test images ours lacks."""
    return max(0, (data["published"].get("test") or 0) - len(models[0].actual))


def scorecard_caption(lines: Sequence[scorecard.Line], models: Sequence[Trained], data: Mapping[str, Any]) -> str:
    ours = "ours are means with" if len(models[0].evaluations) > 1 else "ours have"
    timed = any(line.metric == "cpu_seconds" and line.ours for line in lines)
    return (
        f"{tested(models, data)}: published values are as printed; {ours} {basis(models)}. Trained on {places(models)}."
        + (f" {scorecard.other_images(data['variant'])}" if data["variant"] else "")
        + (f" CPU times are over {models[0].timed_over}, on {timed_on(models)}." if timed and models[0].rounds else "")
        + (
            f" In brackets: the accuracy had all {missing} test images that this copy lacks been wrong, or all right."
            if (missing := lacking(models, data))
            else ""
        )
    )


def compare_pairs(models: Sequence[Trained], data: Mapping[str, Any]) -> list[pairs.Pair]:
    """Every pair of models; raises StageError where they were not scored on the same images."""
    for model in models:
        if not np.array_equal(model.actual, models[0].actual):
            raise other_images(f"{models[0].name} and {model.name}")
    guesses = {model.name: model.predicted for model in models}
    return pairs.compare(models[0].actual, guesses, len(data["classes"]))


def pairs_table(tested_pairs: Sequence[pairs.Pair], models: Sequence[Trained], data: Mapping[str, Any]) -> tables.Table:
    n = models[0].runs
    over = f"mean scores over {models[0].n}" if len(models[0].evaluations) > 1 else models[0].n
    caption = f"{tested(models, data)}: {over}. {verdicts.caption(tested_pairs, n)}"
    return verdicts.table(tested_pairs, ranking(models), n, caption)


def calibration_scores(model: Trained) -> dict[str, stats.Interval]:
    """How far a model's probabilities can be believed; intervals over replicates where there are several."""
    right = model.predicted == model.actual  # (R, N)
    runs = list(zip(model.confidence, right, strict=True))
    values = {
        "calibration_error": [calibration.calibration_error(*run) for run in runs],
        "overconfidence": list(model.confidence.mean(1) - right.mean(1)),
        "accuracy": list(right.mean(1)),
        "selective_accuracy": [float(calibration.selective_accuracy(*run)) for run in runs],
    }
    fitted = [evaluation.get("calibration", {}) for evaluation in model.evaluations]
    for name in ("temperature", "calibration_error_scaled", "log_loss", "log_loss_scaled"):
        if all(name in each for each in fitted):  # evaluations of earlier versions have none
            values[name] = [math.nan if each[name] is None else each[name] for each in fitted]
    return over_replicates(values)


def calibration_table(
    models: Sequence[Trained], scores: Mapping[str, Mapping[str, stats.Interval]], data: Mapping[str, Any]
) -> tables.Table:
    caption = (
        f"{tested(models, data)}: {taken_over(models)}. ECE: expected calibration error,"
        f" {calibration.BINS} bins of equal width (Guo et al. 2017); 0 is perfect. Confidence: mean probability of the"
        f" predicted class; more of it than accuracy is overconfidence. Accuracy at {calibration.COVERAGE:.0%}"
        " coverage: of the images that the model is surest of."
    )
    if all("temperature" in each for each in scores.values()):
        caption += (
            " Scaled: with the logits divided by the temperature that has the least log loss on validation images."
        )
    return tables.calibration(scores, caption)


def inflation_table(models: Sequence[Trained], data: Mapping[str, Any]) -> tables.Table | None:
    """Of the models whose epochs were all scored on the test images; None where there are none."""
    lines = {}
    for model in models:
        every = [evaluation["inflation"] for evaluation in model.evaluations if evaluation.get("inflation")]
        if len(every) < len(model.evaluations):
            continue
        values = {}
        for name in ("accuracy", "macro_f1"):
            values[name] = [evaluation["scores"][name] for evaluation in model.evaluations]
            values[f"{name}_on_test"] = [each["chosen_on_test"][name]["score"] for each in every]
            values[f"{name}_gap"] = [each["gap"][name] for each in every]
        lines[model.name] = over_replicates(values)
    if not lines:
        return None
    caption = (
        f"{tested(models, data)}: {taken_over(models)}. Every other number of this report is of the epoch that"
        " validation chose; these say what each score would have been, had its epoch been looked for on the test"
        " images: too high by the inflation. Nothing is selected by it."
    )
    return tables.inflation(lines, caption)


def latency_table(models: Sequence[Trained], data: Mapping[str, Any]) -> tables.Table | None:
    """Milliseconds of a forward pass on the CPU; None where a model's were not measured."""
    if not all(model.cpu_seconds for model in models):
        return None
    first = models[0].timings
    caption = (
        f"{caption_name(data)}: a forward pass on the CPU ({timed_on(models)}), milliseconds for an image, in float32,"
        f" prepared: for one alone and in batches of {first[0]['cpu_batch']}; medians over images"
        + (f", means ± standard deviations over {models[0].timed_over}." if len(first) > 1 else ".")
    )
    compared = [each for model in models for each in model.evaluations if "onnx_differing" in each["cost"]]
    if compared:
        images = [each["images"] for each in compared]
        differing = sum(each["cost"]["onnx_differing"] for each in compared)
        agreement = f"another class than PyTorch for {differing:,} of {sum(images):,} images"
        if not differing:
            trainings = sum(len(model.evaluations) for model in models)
            whose = "every training" if len(compared) == trainings else f"the {len(compared)} trainings compared"
            count = f"{images[0]:,} " if len({*images}) == 1 else ""
            agreement = f"the same class as PyTorch for all {count}test images of {whose}"
        caption += f" ONNX Runtime named {agreement}."
    return tables.latency({model.name: model.timings for model in models}, caption)


def taken_over(models: Sequence[Trained]) -> str:
    """What the caption of a table says whose numbers have intervals over replicates alone."""
    return f"means with {basis(models)}" if models[0].runs > 1 else f"{models[0].n}, without intervals"


LIMITS = {  # of what is not from 0 to 1
    "overconfidence": {"lowest": -1.0},
    "temperature": {"highest": math.inf},
    "log_loss": {"highest": math.inf},
    "log_loss_scaled": {"highest": math.inf},
}


def over_replicates(values: Mapping[str, Sequence[float]]) -> dict[str, stats.Interval]:
    """Means with intervals over replicates, where there are several, clipped to what a value can be."""
    return {
        name: stats.over_replicates(found, **LIMITS.get(name, {}))
        if len(found) > 1
        else stats.Interval(float(found[0]), math.nan, math.nan, 1, "test images")
        for name, found in values.items()
    }


def classification(model: Trained, data: Mapping[str, Any]) -> tables.Table:
    n = len(model.evaluations)
    over = f"mean ± standard deviation over {model.n}" if n > 1 else model.n
    caption = f"{model.name} on {tested([model], data)}: {over}."
    classes = [each["class"] for each in data["classes"]]
    return tables.classification(f"classification_{model.name}", model.confusions, classes, caption)


def learning_curves(models: Sequence[Trained]) -> learning_curve.Curves:
    """The models that differ in how many training images they saw; none where evaluations do not say how many.

    Those that were trained on the validation images too are no part of a curve: what they saw is another protocol.
    """
    points = {}
    for model in models:
        if not model.validated:
            continue
        first = model.evaluations[0]
        if (images := first.get("train_images")) is not None:
            scores = metrics.score_arrays(model.confusions)["macro_f1"]  # (R,)
            point = learning_curve.Point(model.name, images, scores, model.scores["macro_f1"])
            points[model.name] = (first["config"]["model"], point)
    return learning_curve.curves(points)


def draw(
    models: Sequence[Trained], data: Mapping[str, Any], learnt: learning_curve.Curves, folder: Path
) -> dict[str, Path]:
    """Every figure into `folder`, as PNG and SVG; returns the SVGs by name."""
    classes = [each["class"] for each in data["classes"]]
    counts = {title: [each[split] for each in data["classes"]] for split, title in SPLITS.items()}
    histories = {model.name: model.histories for model in models}
    selected = {
        model.name: [(each["selected"]["epoch"], each["selected"]["val_macro_f1"]) for each in model.evaluations]
        for model in models
    }
    drawn = {
        "class_distribution": figures.class_distribution(classes, counts, data["minority"]),
        "confusion_matrices": figures.confusion_matrices(
            {model.name: model.confusions.sum(0) for model in models}, classes
        ),
        "validation_macro_f1": figures.validation_macro_f1(histories, selected),
        "training_curves": figures.training_curves(histories),
        "error_curves": figures.error_curves(histories),
        "metrics": figures.metric_chart(
            {
                model.name: {
                    tables.MEASURE_TITLES[name]: (each.mean, each.low, each.high)
                    for name, each in model.measures.items()
                }
                for model in models
            }
        ),
    }
    if learnt:
        drawn["learning_curves"] = figures.learning_curves(
            {
                name: [(point.images, point.score.mean, point.score.low, point.score.high) for point in points]
                for name, points in learnt.items()
            }
        )
    runs = {model.name: list(zip(model.confidence, model.predicted == model.actual, strict=True)) for model in models}
    drawn["reliability"] = figures.reliability(
        {name: [calibration.reliability(*run) for run in each] for name, each in runs.items()}
    )
    coverage = np.arange(1, 101) / 100
    drawn["selective_prediction"] = figures.selective_prediction(
        coverage,
        {
            name: np.array([calibration.selective_accuracy(*run, coverage) for run in each])
            for name, each in runs.items()
        },
    )
    drawn["class_scores"] = figures.class_scores({model.name: class_intervals(model) for model in models}, classes)
    drawn["trade_off"] = trade_off(models)
    if all(model.cpu_seconds for model in models):
        drawn["latency"] = figures.latency({model.name: model.cpu_seconds for model in models})
    for name, figure in drawn.items():
        figures.save(figure, folder, name)
    return {name: folder / f"{name}.svg" for name in drawn}


def class_intervals(model: Trained) -> list[figures.Score]:
    """F1 of each class with its interval, over replicates or over test images."""
    found = stats.intervals(model.confusions, measure=class_f1).values()
    return [(each.mean, each.low, each.high) for each in found]


def class_f1(confusions: npt.ArrayLike) -> dict[str, metrics.Floats]:
    """F1 of each class of matrices (..., K, K), by its index: name -> (...)."""
    each = metrics.per_class(confusions)["f1"]
    return {str(index): each[..., index] for index in range(each.shape[-1])}


def trade_off(models: Sequence[Trained]) -> Figure:
    """Accuracy against CPU time where it was measured, else against parameters."""
    parameters = {model.name: model.evaluations[0]["cost"]["parameters"] for model in models}
    scores = {model.name: model.scores["accuracy"] for model in models}
    accuracy = {name: (each.mean, each.low, each.high) for name, each in scores.items()}
    if not all(model.cpu_seconds for model in models):
        return figures.trade_off(parameters, accuracy, parameters, "parameters")
    times = {model.name: float(np.mean([each["cpu_ms_per_image"] for each in model.timings])) for model in models}
    return figures.trade_off(times, accuracy, parameters, "CPU milliseconds for an image")


def terminal(models: Sequence[Trained]) -> str:
    """The comparison for a terminal: intervals of the two scores that lead, means of the others."""
    header = ("", "accuracy", "macro-F1", "weighted F1", "balanced acc.", "n", "parameters", "FLOPs", "training")
    cells = [
        (
            model.name,
            *(tables.score_interval(model.scores[name]) for name in ("accuracy", "macro_f1")),
            *(tables.score(model.scores[name].mean) for name in ("weighted_f1", "balanced_accuracy")),
            str(len(model.evaluations)),
            tables.quantity(model.evaluations[0]["cost"]["parameters"]),
            tables.quantity(model.evaluations[0]["cost"]["flops"]),
            tables.duration(float(np.mean(model.train_seconds))),
        )
        for model in models
    ]
    return tables.text(header, cells) + f"\n[95% interval over {models[0].scores['accuracy'].basis}]"


if __name__ == "__main__":
    run(main)
