"""The report page: one self-contained HTML file, its sections from sections/."""

import math
from collections.abc import Mapping
from pathlib import Path

import jinja2
from markupsafe import Markup, escape

from pipeline.base.quantities import enumerated
from pipeline.report import words
from pipeline.report.found import Found
from pipeline.report.pictures import inline_svg
from pipeline.report.section import Section
from pipeline.report.sections.pairs import against_the_rest, sentence

HERE = Path(__file__).parent
TEMPLATES = (HERE, HERE / "templates")  # sections/NAME.html, and what they share


def render(found: Found, sections: Mapping[str, Section], figures: Path) -> str:
    """The page, in the order of its sections, with the figures that lie in a folder as SVG."""
    html = templates()
    return html.get_template("report.html").render(
        found=found,
        lead=lead(found),
        held=sentence(found.pairs, found.replicates) if found.pairs else "",
        sections=sections,
        texts=[text(html, name, section, found, figures) for name, section in sections.items()],
    )


def text(html: jinja2.Environment, name: str, section: Section, found: Found, figures: Path) -> Markup:
    """One section."""
    content = html.get_template(f"sections/{name}.html").render(
        found=found,
        figures={key: inline_svg(figures / f"{key}.svg") for key in section.figures},
        tables={table.name: table for table in section.tables},
        **section.words,
    )
    return Markup(content.strip("\n"))


def templates() -> jinja2.Environment:
    html = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=jinja2.select_autoescape(["html"]),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    html.filters |= {
        "breakable": breakable,
        "counted": words.counted,
        "enumerated": enumerated,
        "percent": percent,
        "score": words.score,
        "thousands": "{:,}".format,
    }
    return html


def lead(found: Found) -> str:
    """One sentence: which model's macro-F1 is highest (in the mean), how sure that is, and which others it is above."""
    best = max(found.models, key=lambda model: model.scores["macro_f1"].mean)
    top = best.scores["macro_f1"]
    images = "" if best.folds else " and test images"
    over = f"over {best.repeated}{images}" if top.n > 1 else "over the test images, from one replicate"
    score = "mean test macro-F1" if top.n > 1 else "test macro-F1"
    value = f"{words.score(top.mean)} (95% interval {words.score(top.low)} to {words.score(top.high)} {over})"
    if len(found.models) == 1:
        return f"{best.name} reaches a {score} of {value}."
    tied = [model.name for model in found.models if model.scores["macro_f1"].mean == top.mean]
    if len(tied) > 1:
        return f"{enumerated(tied)} share the highest {score}, {value}."
    rest = against_the_rest(found.pairs, found.ranking, found.replicates)
    return f"{best.name} has the highest {score}, {value}; {rest}."


def breakable(name: str) -> Markup:
    """A name that may be broken behind its underscores, where a table would not fit otherwise."""
    return escape(name).replace("_", Markup("_<wbr>"))


def percent(value: float | None) -> str:
    """0.98765 -> 98.7%, rounded down: no 100% for what is less; a dash where undefined."""
    return words.DASH if value is None else f"{math.floor(1000 * value) / 10:.1f}%"
