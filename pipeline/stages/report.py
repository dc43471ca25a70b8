"""Tables, figures, metrics.json and the report page, from what the other stages left in reports/.

Only models and replicates in params.yaml are reported, and only if they were trained by its settings: files of removed
ones are left alone and named. Nothing is computed from images or weights here, so that a report can be rendered anew
wherever reports/ is.
"""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.base import escape
from pipeline.base.files import write_json, written_whole
from pipeline.base.lines import folded
from pipeline.base.process import run
from pipeline.params.read import load_params
from pipeline.records import looks
from pipeline.records.evaluation import Evaluation
from pipeline.report import cards, page, results, sections
from pipeline.report.found import Found
from pipeline.report.results import REPORTS
from pipeline.report.section import Section
from pipeline.report.table import markdown
from pipeline.report.words import score
from pipeline.trained import leftovers

FOLDERS = ("figures", "tables", "cards")
LONGEST = 4000  # characters of a note that MLflow shows
FEW = 6  # models whose scores have room in its first line


def main() -> None:
    settings = load_params()
    found = results.read(settings)
    made = sections.made(found)
    leave(found, made)
    log(found, made)
    lines = [line for section in made.values() for line in section.lines]
    for line in filter(None, [*lines, leftovers.told(settings), f"report: {REPORTS / 'report.html'}"]):
        print(folded(line))


def leave(found: Found, made: Mapping[str, Section]) -> None:
    """Write all outputs: they appear when the block ends, or none does."""
    with contextlib.ExitStack() as stack:
        figures, tables, texts, html, numbers = (
            stack.enter_context(written_whole(REPORTS / name)) for name in (*FOLDERS, "report.html", "metrics.json")
        )
        for folder in (figures, tables, texts):
            folder.mkdir()
        for section in made.values():
            section.write(tables, figures)
        for model in found.models:
            (texts / f"{model.name}.md").write_text(cards.card(model, found), encoding="utf-8")
        html.write_text(page.render(found, made, figures), encoding="utf-8")
        summary = {key: value for section in made.values() for key, value in section.summary.items()}
        write_json(numbers, {"study": found.study, **summary})
    looks.keep(found.study)


def log(found: Found, made: Mapping[str, Section]) -> None:
    from pipeline.tracking.runs import report_run  # late: it imports mlflow, and a fault above should not wait for that

    with report_run() as tracked:
        for section in made.values():
            if section.metrics:
                tracked.metrics(section.metrics)
        for name in FOLDERS:
            tracked.artifact(REPORTS / name, name)
        tracked.artifact(REPORTS / "report.html")
        first = " ".join([in_a_line(made["comparison"].summary["models"]), *verdict(made)])
        tracked.summarise(f"{first}\n\n{markdown(made['comparison'].tables[0])}".strip()[:LONGEST])
        if chosen := best(found.evaluations):
            tracked.champion(chosen.plain())


def verdict(made: Mapping[str, Section]) -> tuple[str, ...]:
    return made["pairs"].lines if "pairs" in made else ()


def in_a_line(models: Mapping[str, Mapping[str, Any]]) -> str:
    """Mean test scores, and validation scores in brackets; of many models those that validation finds best.

    `models` is that of metrics.json: model -> score -> mean.
    """
    validation = {name: each["val_macro_f1"]["mean"] for name, each in models.items() if "val_macro_f1" in each}
    order = sorted(models, key=lambda name: -validation.get(name, 0.0))
    shown = [
        f"{escape.markdown(name)} {score(models[name]['macro_f1']['mean'])}"
        + (f" ({score(validation[name])})" if name in validation else "")
        for name in order[:FEW]
    ]
    title = "Test macro-F1 (validation)" if validation else "Test macro-F1"
    return f"{title}: {', '.join(shown)}{f' and {len(order) - FEW} more' * (len(order) > FEW)}."


def best(evaluations: Sequence[Evaluation]) -> Evaluation | None:
    """The one with the highest validation macro-F1; of equals, the first of params.yaml.

    None where no training has a validation score.
    """
    scores = {index: each.selected.val_macro_f1 for index, each in enumerate(evaluations)}
    known = {index: score for index, score in scores.items() if score is not None}
    return evaluations[max(known, key=lambda index: known[index])] if known else None


if __name__ == "__main__":
    run(main)
