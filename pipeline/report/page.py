"""The report page: one self-contained HTML file, its sections from sections/."""

import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from pipeline.base.places import checkout, study
from pipeline.params.study import Params
from pipeline.report import drawing, table, words
from pipeline.report.captions import caption_name, overrides, places, ranking
from pipeline.report.pictures import data_uri, embedded, inline_svg, lossless
from pipeline.report.results import Model
from pipeline.report.sections import classes, scorecard
from pipeline.report.sections.caveats import caveats, unvalidated
from pipeline.report.sections.comparison import lead
from pipeline.report.sections.confusion import confused, confusion
from pipeline.report.sections.cost import latency_caption
from pipeline.report.sections.data import findings, split_counts
from pipeline.report.sections.images import mistakes
from pipeline.report.sections.pairs import FEW, matrix
from pipeline.report.sections.protocol import networks, protocol
from pipeline.report.sections.rerun import effort
from pipeline.scoring import curves, metrics, pairs, published

TEMPLATES = (Path(__file__).parent, Path(__file__).parent / "templates")  # sections/NAME.html, and what they share


# of the page, from top to bottom: the name of a file in sections/, and its title in the list of sections
SECTIONS = {
    "comparison": "Comparison",
    "pairs": "Differences",
    "scorecard": "Scorecard",
    "cost": "Accuracy and cost",
    "confusion": "Confusion",
    "classes": "Classes",
    "metrics": "Metrics",
    "learning": "Data size",
    "training": "Training",
    "images": "Images",
    "calibration": "Calibration",
    "inflation": "Inflation",
    "data": "Data",
    "protocol": "Protocol",
    "caveats": "Caveats",
    "rerun": "Run and rerun",
}


def render(
    *,
    settings: Params,
    data: Mapping[str, Any],
    models: Sequence[Model],
    overview: table.Table,
    timed: table.Table | None,
    tested_pairs: Sequence[pairs.Pair],
    held: str,
    verdict: table.Table | None,
    lines: Sequence[published.Line],
    card: table.Table | None,
    reports: Sequence[table.Table],
    believed: table.Table,
    inflated: table.Table | None,
    explanations: Mapping[str, Any] | None,
    checkup: Mapping[str, Any],
    drawn: Mapping[str, Path],
    augmentation: Path,
    learnt: curves.Curves,
) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=jinja2.select_autoescape(["html"]),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["thousands"] = lambda value: f"{value:,}"
    environment.filters["percent"] = percent
    best = {
        column: max(models, key=lambda model, name=name: model.scores[name].mean).name  # type: ignore[misc]
        for column, name in enumerate(metrics.SCORES, start=1)
    }
    optional = {"pairs": tested_pairs, "scorecard": card, "learning": learnt, "inflation": inflated}
    absent = {name for name, content in optional.items() if not content}
    return environment.get_template("report.html").render(
        sections=[name for name in SECTIONS if name not in absent],
        titles=SECTIONS,
        study=study(),
        at_root=Path.cwd() == checkout(),
        place=shlex.quote(f"studies/{study()}"),
        data=data,
        name=caption_name(data),
        colours=drawing.colours([model.name for model in models]),
        figures={key: inline_svg(path) for key, path in drawn.items()},
        overrides={model.name: overrides(model) for model in models},
        replicates=len(settings.replicates),
        confused=confused(models, data),
        mistakes=mistakes(models),
        unit="fold" if models[0].folds else "replicate",
        runs=models[0].runs,
        facts=facts(models, data),
        # comparison, pairs, scorecard
        lead=lead(models, tested_pairs),
        overview=overview,
        timed=timed,
        order=overview.frame.to_numpy().tolist(),
        measured=list(overview.frame.columns),
        highest=best if len(models) > 1 else {},
        pairs=len(tested_pairs),
        verdict=verdict,
        learnt=list(learnt),
        learnt_texts=curves.sentences(learnt),
        matrix=matrix(tested_pairs, ranking(models)) if len(tested_pairs) > FEW else [],
        held=held,
        card=card,
        verdicts=list(zip(lines, card.cells, strict=True)) if card else [],
        summary=f"{scorecard.sentence(lines)} {published.other_images(data['variant'])}".strip() if lines else "",
        # cost, confusion, classes, training
        latency=latency_caption(models, data) if "latency" in drawn else "",
        confusion=embedded(confusion(models, data)),
        hardest=min(len(data["classes"]), classes.PANELS),
        reports=list(zip([model.name for model in models], reports, strict=True)),
        unvalidated=unvalidated(models),
        averaged=[
            model.name
            for model in models
            if model.validated and model.evaluations[0]["config"]["train"]["select"] == "average"
        ],
        many=len(models) > len(drawing.PALETTE),  # more than training_curves tells apart in one panel
        # images, calibration
        explanations=explanations,
        sheet=data_uri(explanations["picture"], "jpeg") if explanations else "",
        believed=believed,
        inflated=inflated,
        # data
        splits=split_counts(data),
        findings=findings(checkup, models),
        ratio=max(each["train"] for each in data["classes"]) / min(each["train"] for each in data["classes"]),
        subject="training images" if data["shareable"] else "test cards",
        augmentation=lossless(augmentation.read_bytes()),
        # protocol, caveats, rerun
        protocol=protocol(settings, data, models),
        networks=networks(models),
        caveats=caveats(data, models),
        effort=effort(models),
    )


def facts(models: Sequence[Model], data: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What every number on the page rests on, in a few words each."""
    n = len(models[0].evaluations)
    return [
        ("Models", f"{len(models)}"),
        ("Folds", f"{n}, each tested once")
        if models[0].folds
        else ("Replicates", f"{n} each" if n > 1 else "1 each: no spread over seeds"),
        ("Test images", f"{len(models[0].actual):,} in {len(data['classes'])} classes"),
        ("Trained on", places(models)),
    ]


def percent(value: float | None) -> str:
    """0.98765 -> 98.7%, rounded down: no 100% for what is less; a dash where undefined."""
    return words.DASH if value is None else f"{math.floor(1000 * value) / 10:.1f}%"
