"""Tables, figures, metrics.json and the report page, from what the other stages left in reports/.

Only models and replicates in params.yaml are reported: files of removed ones are left alone. Nothing is computed from
images or weights here, so that a report can be rendered anew wherever reports/ is.
"""

import base64
import contextlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import numpy.typing as npt
import pandas as pd
from markupsafe import Markup

from pipeline import calibration, figures, metrics, pairs, params, scorecard, stats, tables, verdicts
from pipeline.stage import StageError, checkout, run, study, whole, write_json

REPORTS = Path("reports")
TEMPLATES = Path(__file__).parent / "templates"
SPLITS = {"train": "training", "val": "validation", "test": "test"}


@dataclass(frozen=True)
class Trained:
    """What the stages left of one model: one entry per replicate."""

    name: str
    evaluations: tuple[dict[str, Any], ...]
    histories: tuple[pd.DataFrame, ...]
    confusions: npt.NDArray[np.int64]  # (R, K, K)
    actual: npt.NDArray[np.int64]  # (N,)
    predicted: npt.NDArray[np.int64]  # (R, N)
    confidence: npt.NDArray[np.float64]  # (R, N), the probability of the predicted class
    scores: Mapping[str, stats.Interval]
    folds: bool = False  # whether each replicate is a fold: `actual` then holds all folds' images, each predicted once

    @property
    def n(self) -> str:
        """n = 5 folds"""
        count = len(self.evaluations)
        return f"n = {count} {'fold' if self.folds else 'replicate'}{'s' * (count > 1)}"

    @property
    def runs(self) -> int:
        """How many times each test image was predicted."""
        return len(self.predicted)

    @property
    def costs(self) -> list[dict[str, float]]:
        return [evaluation["cost"] for evaluation in self.evaluations]

    @property
    def train_seconds(self) -> list[float]:
        return [cost["train_seconds"] for cost in self.costs]

    @property
    def cpu_seconds(self) -> list[float]:
        """Of a forward pass over all test images; empty where it was not measured."""
        return scorecard.cpu_seconds(self.costs, len(self.actual))


def main() -> None:
    settings = params.load()
    data = {"shareable": False, **read_json(REPORTS / "data.json", "split")}
    picture = REPORTS / "augmentation.png"
    if not picture.exists():
        raise _missing(picture, "preview")
    models = [read_model(name, settings.replicates, data) for name in settings.models]
    checkup = read_json(REPORTS / "doctor.json", "doctor")
    tested_pairs = compare_pairs(models, data)
    summary: dict[str, Any] = {"study": study(), "models": {model.name: headline(model) for model in models}}
    if tested_pairs:
        summary["pairs"] = verdicts.compact(tested_pairs)
    overview = tables.comparison([line(model) for model in models], comparison_caption(models, data))
    reports = [classification(model, data) for model in models]
    verdict = pairs_table(tested_pairs, models, data) if tested_pairs else None
    believed = calibration_table(models, data)
    lines = compare(settings, data, models)
    card = scorecard.table(lines, scorecard_caption(models, data)) if lines else None

    with contextlib.ExitStack() as stack:  # all outputs appear when the block ends, or none
        outputs = [stack.enter_context(whole(REPORTS / name)) for name in ("figures", "tables")]
        page, numbers = (stack.enter_context(whole(REPORTS / name)) for name in ("report.html", "metrics.json"))
        for folder in outputs:
            folder.mkdir()
        drawn = draw(models, data, outputs[0])
        for table in filter(None, (overview, verdict, believed, *reports, card)):
            tables.write(table, outputs[1])
        html = render(
            settings,
            data,
            checkup,
            models,
            overview,
            tested_pairs,
            verdict,
            believed,
            reports,
            lines,
            card,
            drawn,
            picture,
        )
        page.write_text(html, encoding="utf-8")
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
                f"{model.name}/{name}": interval.mean
                for model, values in zip(models, map(calibration_scores, models), strict=True)
                for name, interval in values.items()
                if name != "accuracy" and not math.isnan(interval.mean)
            }
        )
        if tested_pairs:
            held = sum(pair.verdict != "not distinguishable" for pair in tested_pairs)
            tracked.metrics({"pairs/different": held, "pairs/not_distinguishable": len(tested_pairs) - held})
        if lines:
            tracked.metrics({f"scorecard/{name}": count for name, count in scorecard.counts(lines).items()})
        for name in ("tables", "figures"):
            tracked.artifact(REPORTS / name, name)
        tracked.artifact(REPORTS / "report.html")
    print(terminal(models))
    if tested_pairs:
        print(verdicts.sentence(tested_pairs, models[0].runs))
    if lines:
        print(scorecard.sentence(lines))
    print(f"report: {REPORTS / 'report.html'}")


# what the other stages left


def read_json(path: Path, stage: str) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise _missing(path, stage) from None
    except ValueError:
        raise StageError(
            f"report: {path}: not readable as JSON; run `dvc repro -f {stage}` in the study's folder"
        ) from None


def read_csv(path: Path, stage: str, columns: Sequence[str]) -> pd.DataFrame:
    texts = {name: str for name in columns if name in ("actual", "predicted")}
    empty = {name: [""] for name in columns if name not in texts} if texts else None  # a class may be called NA
    try:
        return pd.read_csv(path, usecols=list(columns), dtype=texts, keep_default_na=not texts, na_values=empty)
    except FileNotFoundError:
        raise _missing(path, stage) from None
    except ValueError:
        raise StageError(
            f"report: {path}: not readable as a table with columns {', '.join(columns[:8])}"
            f"{', ...' * (len(columns) > 8)};"
            f" run `dvc repro -f {stage}` in the study's folder"
        ) from None


def read_model(name: str, replicates: Sequence[int], data: Mapping[str, Any]) -> Trained:
    """One model's evaluations and histories; raises StageError if one is missing or does not fit the others."""
    classes = [each["class"] for each in data["classes"]]
    evaluations, histories, tables_of_images = [], [], []
    probabilities = [f"p({each})" for each in classes]
    for replicate in replicates:
        run_name = f"{name}-{replicate}"
        path = REPORTS / "evaluations" / f"{run_name}.json"
        evaluation = read_json(path, f"evaluate@{run_name}")
        predictions = read_csv(
            REPORTS / "predictions" / f"{run_name}.csv",
            f"evaluate@{run_name}",
            ("actual", "predicted", *probabilities),
        )
        columns = ("epoch", "train_loss", "val_accuracy", "val_macro_f1")
        histories.append(read_csv(REPORTS / "histories" / f"{run_name}.csv", f"train@{run_name}", columns))
        if [each["class"] for each in evaluation["classes"]] != classes:
            raise StageError(f"report: {path}: its classes are not those of {REPORTS / 'data.json'}; run `dvc repro`")
        actual, predicted = (_labels(predictions[key], classes) for key in ("actual", "predicted"))
        if not np.array_equal(_count(actual, predicted, classes), np.array(evaluation["confusion"]["counts"])):
            raise StageError(
                f"report: {path}: its confusion matrix is not that of reports/predictions/{run_name}.csv;"
                f" run `dvc repro -f evaluate@{run_name}`"
            )
        evaluations.append(evaluation)
        tables_of_images.append((actual, predicted, predictions[probabilities].to_numpy().max(1)))
    confusions = np.array([evaluation["confusion"]["counts"] for evaluation in evaluations], dtype=np.int64)
    folds = "cross_validation" in data
    if folds:  # each image is in one of them
        actual, predicted, confidence = (np.concatenate(parts) for parts in zip(*tables_of_images, strict=True))
        tables_of_images = [(actual, predicted, confidence)]
    if any(not np.array_equal(actual, tables_of_images[0][0]) for actual, _, _ in tables_of_images):
        raise _other_images(name)
    return Trained(
        name,
        tuple(evaluations),
        tuple(histories),
        confusions,
        tables_of_images[0][0],
        np.array([predicted for _, predicted, _ in tables_of_images]),
        np.array([confidence for _, _, confidence in tables_of_images]),
        stats.intervals(confusions),
        folds,
    )


def _labels(names: pd.Series, classes: list[str]) -> npt.NDArray[np.int64]:
    """Each name's place among the classes; -1 where a name is no class's."""
    return pd.Index(classes).get_indexer(pd.Index(names)).astype(np.int64)


def _other_images(name: str) -> StageError:
    return StageError(
        f"report: reports/predictions: those of {name} are not all of the same test images; run `dvc repro`"
    )


def _count(
    actual: npt.NDArray[np.int64], predicted: npt.NDArray[np.int64], classes: list[str]
) -> npt.NDArray[np.int64]:
    """The confusion matrix; empty if a label is no class's."""
    if (actual < 0).any() or (predicted < 0).any():
        return np.zeros((0, 0), dtype=np.int64)
    return metrics.confusion_matrix(actual, predicted, len(classes))


def _missing(path: Path, stage: str) -> StageError:
    return StageError(f"report: {path}: not found; run `dvc repro {stage}` in the study's folder")


# numbers, tables, figures


def headline(model: Trained) -> dict[str, Any]:
    """One model's entry in metrics.json."""
    intervals = {
        name: {"mean": each.mean, "low": each.low, "high": each.high, "n": each.n}
        for name, each in model.scores.items()
    }
    first = model.evaluations[0]
    return {
        **intervals,
        "val_macro_f1": selected(model),
        **{key: first["cost"][key] for key in ("parameters", "flops", "weight_bytes")},
        "train_seconds": float(np.mean(model.train_seconds)),
        "images": len(model.actual),
    }


def selected(model: Trained) -> dict[str, float]:
    """Validation macro-F1 of the epochs that were evaluated: what settings are to be chosen by, not the test scores."""
    values = [evaluation["selected"]["val_macro_f1"] for evaluation in model.evaluations]
    return {"mean": float(np.mean(values)), "n": len(values)}


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
        overrides=setting(first["overrides"]) if first["overrides"] else "",
    )


def comparison_caption(models: Sequence[Trained], data: Mapping[str, Any]) -> str:
    scores = "mean scores" if len(models[0].evaluations) > 1 else "scores"
    return f"{tested(models, data)}: {scores} with {basis(models)}. Trained on {places(models)}."


def tested(models: Sequence[Trained], data: Mapping[str, Any]) -> str:
    """Digits, 360 test images"""
    folds = ", each in its fold's model" if models[0].folds else ""
    return f"{caption_name(data)}, {len(models[0].actual):,} test images{folds}"


def basis(models: Sequence[Trained]) -> str:
    """What the intervals are taken over."""
    n = len(models[0].evaluations)
    if n > 1:
        return f"95% intervals over {models[0].n} (Student t)"
    return "95% intervals over test images (percentile bootstrap; n = 1 replicate)"


def compare(settings: params.Params, data: Mapping[str, Any], models: Sequence[Trained]) -> list[scorecard.Line]:
    """The numbers published for this data set, beside ours."""
    named = {
        row.model or table.model
        for table in settings.published
        if table.dataset == data["dataset"]
        for row in table.rows.values()
    }
    results = {
        model.name: scorecard.result(model.confusions, model.costs, len(model.actual))
        for model in models
        if model.name in named
    }
    classes = [each["class"] for each in data["classes"]]
    images = len(models[0].actual)
    return scorecard.compare(settings.published, data["dataset"], results, classes, images, lacking(models, data))


def lacking(models: Sequence[Trained], data: Mapping[str, Any]) -> int:
    """How many published test images ours lacks."""
    return max(0, (data["published"].get("test") or 0) - len(models[0].actual))


def scorecard_caption(models: Sequence[Trained], data: Mapping[str, Any]) -> str:
    ours = "ours are means with" if len(models[0].evaluations) > 1 else "ours have"
    return (
        f"{tested(models, data)}: published values are as printed; {ours} {basis(models)}. Trained on {places(models)}."
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
            raise _other_images(f"{models[0].name} and {model.name}")
    guesses = {model.name: model.predicted for model in models}
    return pairs.compare(models[0].actual, guesses, len(data["classes"]))


def pairs_table(tested_pairs: Sequence[pairs.Pair], models: Sequence[Trained], data: Mapping[str, Any]) -> tables.Table:
    n = models[0].runs
    over = f"mean scores over {models[0].n}" if len(models[0].evaluations) > 1 else models[0].n
    caption = f"{tested(models, data)}: {over}. {verdicts.caption(tested_pairs, n)}"
    return verdicts.table(tested_pairs, ranking(models), n, caption)


def ranking(models: Sequence[Trained]) -> list[str]:
    """Names, the highest mean macro-F1 first."""
    return [model.name for model in sorted(models, key=lambda model: -model.scores["macro_f1"].mean)]


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
    return {
        name: stats.over_replicates(found, lowest=-1.0 if name == "overconfidence" else 0.0)
        if len(found) > 1
        else stats.Interval(float(found[0]), math.nan, math.nan, 1, "test images")
        for name, found in values.items()
    }


def calibration_table(models: Sequence[Trained], data: Mapping[str, Any]) -> tables.Table:
    over = f"means with {basis(models)}" if models[0].runs > 1 else f"{models[0].n}, without intervals"
    caption = (
        f"{tested(models, data)}: {over}. ECE: expected calibration error, {calibration.BINS} bins of equal width (Guo"
        " et al. 2017); 0 is perfect. Confidence: mean probability of the predicted class; more of it than accuracy is"
        f" overconfidence. Accuracy at {calibration.COVERAGE:.0%} coverage: of the images that the model is surest of."
    )
    return tables.calibration({model.name: calibration_scores(model) for model in models}, caption)


def places(models: Sequence[Trained]) -> str:
    """The devices and precisions of all trainings."""
    machines = [evaluation["machine"] for model in models for evaluation in model.evaluations]
    return _enumerate(list(dict.fromkeys(f"{machine['device']} in {machine['precision']}" for machine in machines)))


def classification(model: Trained, data: Mapping[str, Any]) -> tables.Table:
    n = len(model.evaluations)
    over = f"mean ± standard deviation over {model.n}" if n > 1 else model.n
    caption = f"{model.name} on {tested([model], data)}: {over}."
    classes = [each["class"] for each in data["classes"]]
    return tables.classification(f"classification_{model.name}", model.confusions, classes, caption)


def caption_name(data: Mapping[str, Any]) -> str:
    """The data set as captions name it: a variant always says so."""
    return f"{data['title']} ({data['variant']})" if data["variant"] else data["title"]


def latency_caption(models: Sequence[Trained], data: Mapping[str, Any]) -> str:
    first = models[0].evaluations[0]
    images, threads, batch = len(models[0].actual), first["cost"]["cpu_threads"], first["cost"]["cpu_batch"]
    timed = min(cost["cpu_images"] for model in models for cost in model.costs)
    n = len(models[0].evaluations)
    return (
        f"Forward pass over the {images:,} test images of {caption_name(data)} on the CPU"
        f" ({first['machine']['processor']}; {threads} thread{'s' * (threads > 1)}), in float32, {batch} at a time"
        + (f"; reckoned from {timed:,} of them" if timed < images else "")
        + (f". Bars: means over {models[0].n}; dots: each." if n > 1 else "; n = 1 replicate.")
    )


def draw(models: Sequence[Trained], data: Mapping[str, Any], folder: Path) -> dict[str, Path]:
    """Every figure into `folder`, as PNG and SVG; returns the SVGs by name."""
    classes = [each["class"] for each in data["classes"]]
    counts = {title: [each[split] for each in data["classes"]] for split, title in SPLITS.items()}
    histories = {model.name: model.histories for model in models}
    selected = {model.name: [each["selected"]["epoch"] for each in model.evaluations] for model in models}
    drawn = {
        "class_distribution": figures.class_distribution(classes, counts, data["minority"]),
        "confusion_matrices": figures.confusion_matrices(
            {model.name: model.confusions.sum(0) for model in models}, classes
        ),
        "validation_macro_f1": figures.validation_macro_f1(histories, selected),
        "training_curves": figures.training_curves(histories),
    }
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
    if all(model.cpu_seconds for model in models):
        drawn["latency"] = figures.latency({model.name: model.cpu_seconds for model in models})
    for name, figure in drawn.items():
        figures.save(figure, folder, name)
    return {name: folder / f"{name}.svg" for name in drawn}


def confused(models: Sequence[Trained], data: Mapping[str, Any], most: int = 4) -> list[tuple[str, str]]:
    """Each model with the pairs of classes that it takes for each other most, by the share of both classes' images."""
    classes = [each["class"] for each in data["classes"]]
    found = []
    for model in models:
        counts = model.confusions.sum(0)  # (K, K)
        support = counts.sum(1)
        pairs_of_classes = [
            (int(counts[a, b] + counts[b, a]) / int(support[a] + support[b]), a, b)
            for a in range(len(classes))
            for b in range(a)
            if counts[a, b] + counts[b, a]
        ]
        ranked = sorted(pairs_of_classes, reverse=True)[:most]
        texts = [f"{classes[b]} and {classes[a]} ({share:.1%} of their images)" for share, a, b in ranked]
        found.append((model.name, "; ".join(texts) or "none"))
    return found


def mistakes(models: Sequence[Trained]) -> list[tuple[str, list[dict[str, str]]]]:
    """Each model's surest mistakes as evaluate left them: none of a data set whose images may not be passed on."""
    found = [(model.name, model.evaluations[0].get("mistakes", [])) for model in models]
    return [(name, images) for name, images in found if images]


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


# the page


def render(
    settings: params.Params,
    data: Mapping[str, Any],
    checkup: Mapping[str, Any],
    models: Sequence[Trained],
    overview: tables.Table,
    tested_pairs: Sequence[pairs.Pair],
    verdict: tables.Table | None,
    believed: tables.Table,
    reports: Sequence[tables.Table],
    lines: Sequence[scorecard.Line],
    card: tables.Table | None,
    drawn: Mapping[str, Path],
    picture: Path,
) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["thousands"] = lambda value: f"{value:,}"
    tones = figures.colours([model.name for model in models])
    best = {
        column: max(models, key=lambda model, name=name: model.scores[name].mean).name  # type: ignore[misc]
        for column, name in enumerate(metrics.SCORES, start=1)
    }
    return environment.get_template("report.html").render(
        study=study(),
        at_root=Path.cwd() == checkout(),
        data=data,
        name=caption_name(data),
        splits=split_counts(data),
        findings=findings(checkup, models),
        ratio=max(each["train"] for each in data["classes"]) / min(each["train"] for each in data["classes"]),
        subject="training images" if data["shareable"] else "test cards",
        lead=lead(models, tested_pairs),
        pairs=len(tested_pairs),
        verdict=verdict,
        matrix=verdicts.matrix(tested_pairs, ranking(models)) if len(tested_pairs) > verdicts.FEW else [],
        held=verdicts.sentence(tested_pairs, models[0].runs) if tested_pairs else "",
        believed=believed,
        overview=overview,
        card=card,
        verdicts=list(zip(lines, card.cells, strict=True)) if card else [],
        summary=scorecard.sentence(lines) if lines else "",
        latency=latency_caption(models, data) if "latency" in drawn else "",
        highest=best if len(models) > 1 else {},
        reports=list(zip([model.name for model in models], reports, strict=True)),
        colours=tones,
        many=len(models) > len(figures.PALETTE),  # more than training_curves tells apart in one panel
        figures={key: inline_svg(path, key) for key, path in drawn.items()},
        augmentation="data:image/png;base64," + base64.b64encode(picture.read_bytes()).decode(),
        protocol=protocol(settings, data, models),
        overrides={model.name: line(model).overrides for model in models},
        networks=networks(models),
        caveats=caveats(data, models),
        effort=effort(models),
        replicates=len(settings.replicates),
        confused=confused(models, data),
        mistakes=mistakes(models),
        unit="fold" if models[0].folds else "replicate",
        runs=models[0].runs,
    )


def lead(models: Sequence[Trained], tested_pairs: Sequence[pairs.Pair]) -> str:
    """One sentence: which model's macro-F1 is highest (in the mean), how sure that is, and which others it is above."""
    ranked = sorted(models, key=lambda model: -model.scores["macro_f1"].mean)
    top = ranked[0].scores["macro_f1"]
    over = f"over {models[0].n.removeprefix('n = ')}" if top.n > 1 else "over the test images, from one replicate"
    score = "mean test macro-F1" if top.n > 1 else "test macro-F1"
    value = f"{tables.score(top.mean)} (95% interval {tables.score(top.low)} to {tables.score(top.high)} {over})"
    if len(models) == 1:
        return f"{ranked[0].name} reaches a {score} of {value}."
    tied = [model.name for model in ranked if model.scores["macro_f1"].mean == top.mean]
    if len(tied) > 1:
        return f"{_enumerate(tied)} share the highest {score}, {value}."
    rest = verdicts.against_the_rest(tested_pairs, ranking(models), models[0].runs)
    return f"{ranked[0].name} has the highest {score}, {value}; {rest}."


def split_counts(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Per split: images as published and as found in the data set, and those used (None where there is no number)."""
    return [
        {
            "split": title,
            "published": data["published"].get(split) or None,
            "found": data["found"].get(split) or None,
            "used": sum(each[split] for each in data["classes"]),
        }
        for split, title in SPLITS.items()
    ]


def findings(checkup: Mapping[str, Any], models: Sequence[Trained]) -> list[str]:
    """What the doctor found in the data, a sentence each, and what leaks from test to training do to the scores."""
    count = {key: f"{value:,}" for key, value in checkup.items() if isinstance(value, int)}
    pairs_of_splits = {"train_val": "training and validation", "train_test": "training and test"}
    pairs_of_splits["val_test"] = "validation and test"

    def lying(kind: str) -> str:
        found = [
            f"{count[f'{kind}_{key}']} in {name}" for key, name in pairs_of_splits.items() if checkup[f"{kind}_{key}"]
        ]
        return f", {_enumerate(found)}" if found else ", none across splits"

    notes = []
    if checkup["duplicate_groups"]:
        notes.append(
            f"{count['duplicate_images']} of {count['images']} images have the pixels of another one:"
            f" {count['duplicate_groups']} groups{lying('equal')}."
        )
    else:
        notes.append(f"No two of the {count['images']} images have equal pixels.")
    if leaked := checkup["leaked_test_rows"]:
        rest = np.setdiff1d(np.arange(len(models[0].actual)), leaked)
        scores = [
            f"{model.name} {tables.score(model.scores['accuracy'].mean)} with, "
            f"{tables.score((model.predicted == model.actual)[:, rest].mean())} without"
            for model in models
        ]
        notes.append(
            f"{count['leaked_test_images']} test images occur in training or validation too. Accuracy with and without"
            f" them: {'; '.join(scores)}."
        )
    if checkup["conflicting_labels"]:
        notes.append(f"{count['conflicting_labels']} groups of equal images have more than one label.")
    if checkup["near_pairs"]:
        notes.append(
            f"{count['near_pairs']} further pairs of images are alike to a correlation of {checkup['near_correlation']}"
            f"{lying('near')}."
        )
    if checkup["blank_images"]:
        notes.append(f"{count['blank_images']} images are of one colour.")
    return notes


def protocol(
    settings: params.Params, data: Mapping[str, Any], models: Sequence[Trained]
) -> list[tuple[str, list[tuple[str, str]]]]:
    """Sections of resolved settings; one that differs between models names the models."""
    sections = []
    for name, part in (("dataset", settings.dataset), ("split", settings.split)):
        content = part.model_dump(exclude={"source"})  # a source may be a place on somebody's disk
        official = [f"{split}_fraction" for split in ("val", "test") if data["published"].get(split)]
        content |= dict.fromkeys(set(official) & content.keys(), "not used: the official split was kept")
        sections.append((name, [(key, setting(value)) for key, value in content.items()]))
    for name in ("augment", "train"):
        rows = []
        for key in models[0].evaluations[0]["config"][name]:
            found: dict[str, list[str]] = {}
            for model in models:
                found.setdefault(resolved(model, name, key, data), []).append(model.name)
            alike = len(found) == 1
            values = [value if alike else f"{value} ({', '.join(names)})" for value, names in found.items()]
            rows.append((key, "; ".join(values)))
        sections.append((name, rows))
    return sections


def resolved(model: Trained, section: str, key: str, data: Mapping[str, Any]) -> str:
    """A setting as it took effect: `auto` and a flip that the data set forbids say what came of them."""
    if section == "train" and key in ("device", "precision"):
        return ", ".join(dict.fromkeys(evaluation["machine"][key] for evaluation in model.evaluations))
    if section == "augment" and key == "flip" and data.get("flip") is False:
        return "no, it would change classes of this data set"
    return setting(model.evaluations[0]["config"][section].get(key))


def networks(models: Sequence[Trained]) -> list[tuple[str, list[str]]]:
    """Every model setting with its value for each model, a dash where a model has no such setting."""
    configs = [model.evaluations[0]["config"]["model"] for model in models]
    keys = dict.fromkeys(key for config in configs for key in config if key != "train")
    return [(key, [setting(config[key]) if key in config else tables.DASH for config in configs]) for key in keys]


def caveats(data: Mapping[str, Any], models: Sequence[Trained]) -> list[str]:
    """What a reader should know before believing the numbers."""
    images = len(models[0].actual)
    n = len(models[0].evaluations)
    notes = []
    if models[0].folds:
        by = data["cross_validation"]["by"]
        notes.append(
            f"Every interval of a score is a Student t interval over {models[0].n}: models that share most of their"
            " training images, so it is too narrow if anything. Differences between models and calibration are taken"
            f" over the {images:,} images, each predicted once, by the model that did not train on it."
        )
        notes.append(
            "Folds are drawn by subject: nobody is in training and test."
            if by == "subject"
            else "Folds are drawn by image: where a data set shows a person more than once, test images show people"
            " that were trained on, and scores say little of strangers."
        )
    elif n > 1:
        notes.append(
            f"Every interval of a score is a Student t interval over n = {n} replicates. It covers the luck of"
            f" initialisation, order and augmentation; it does not cover another draw of the {images:,} test images or"
            " another split."
            + " Intervals of differences and verdicts cover both seeds and test images, not another split."
            * (len(models) > 1)
        )
    else:
        notes.append(
            f"Each model was trained once. Every interval of a score is a percentile bootstrap over the {images:,} test"
            f" images ({stats.RESAMPLES:,} resamples): it covers another draw of test images and nothing of another"
            " seed."
        )
    if data["variant"]:
        notes.append(f"The images are not the official data set but a variant of it: {data['variant']}.")
    starts: dict[str, list[str]] = {}
    for model in models:
        starts.setdefault(model.evaluations[0]["initialisation"], []).append(model.name)
    if len(starts) == 1:
        notes.append(f"Initialisation of all models: {next(iter(starts))}.")
    else:
        each = "; ".join(f"{', '.join(names)}: {start}" for start, names in starts.items())
        notes.append(f"The models do not start alike ({each}): part of their difference may be due to that.")
    notes.append(
        f"Trained on {places(models)}. Training times are wall-clock times of one machine with whatever else it was"
        " doing; they compare only within one device."
    )
    if any(model.evaluations[0]["overrides"] for model in models):
        notes.append("Not every model was trained under the shared protocol: own settings are named in the tables.")
    notes.append(
        "A dash marks what is undefined, such as the precision of a class that was never predicted; averages"
        " leave it out, where scikit-learn counts 0."
    )
    return notes


def effort(models: Sequence[Trained]) -> list[tuple[str, str]]:
    """What was run, on what, for how long."""
    evaluations = [evaluation for model in models for evaluation in model.evaluations]
    machines = [evaluation["machine"] for evaluation in evaluations]
    starts = [evaluation["run"]["started"] for evaluation in evaluations]
    commits = list(dict.fromkeys(evaluation["run"]["commit"] or "unknown" for evaluation in evaluations))
    epochs = list(dict.fromkeys(str(evaluation["cost"]["epochs"]) for evaluation in evaluations))

    def named(key: str, unit: str = "") -> str:
        return _enumerate(list(dict.fromkeys(f"{machine[key]}{unit}" for machine in machines)))

    versions = [
        f"{title} {named(key)}" for key, title in (("torch", "PyTorch"), ("timm", "timm"), ("python", "Python"))
    ]
    return [
        (
            "Trainings",
            f"{len(evaluations)} ({len(models)} models × {models[0].n.removeprefix('n = ')}),"
            f" {_enumerate(epochs)} epochs each",
        ),
        ("Training time", tables.duration(sum(evaluation["cost"]["train_seconds"] for evaluation in evaluations))),
        ("Started", f"{min(starts)[:16].replace('T', ' ')} to {max(starts)[:16].replace('T', ' ')} UTC"),
        ("Code", f"commit {_enumerate(commits)}"),
        ("Device", named("device")),
        ("Processor", f"{named('processor')}; {named('threads')} threads"),
        ("Precision", named("precision")),
        ("Software", ", ".join(versions)),
    ]


def setting(value: Any) -> str:
    """A setting's value as a reader writes it: {"crop": 0.2, "rotate": 15} -> crop 0.2, rotate 15."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {setting(each)}" for key, each in value.items()) or tables.DASH
    if isinstance(value, (list, tuple)):
        return ", ".join(map(setting, value)) or tables.DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    return tables.DASH if value is None or value == "" else str(value)


def _enumerate(names: Sequence[str]) -> str:
    """a, b and c"""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def inline_svg(path: Path, name: str) -> Markup:
    """A figure to stand in the page: ids of its own, colours and font those of the page, width as the page has room."""
    svg = path.read_text(encoding="utf-8")
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<(metadata|style)\b.*?</\1>\s*", "", svg, flags=re.DOTALL)  # its style would be the whole page's
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", svg)
    for tone in ("INK", "SOFT", "GHOST", "FAINT", "PAPER"):
        svg = svg.replace(getattr(figures, tone), f"var(--{tone.lower()})")
    svg = re.sub(r"font-family: [^;\"]*", "font-family: var(--sans)", svg)
    points = float(re.search(r'width="([\d.]+)pt"', svg)[1])  # type: ignore[index]
    style = f"min-width:{0.85 * points:.0f}px;max-width:{1.5 * points:.0f}px"  # a point is 4/3 px
    svg = re.sub(r'\s(width|height)="[\d.]+pt"', "", svg, count=2)
    return Markup(
        svg.replace("<svg ", f'<svg aria-hidden="true" style="{style}" ', 1).strip()
    )  # the figure has the text


if __name__ == "__main__":
    run(main)
