"""A model card (Mitchell et al. 2019, arXiv:1810.03993) for each model: what it is for, what it is not for, on what it
was trained, how well it did. Text from evaluate's results and reports/data.json alone, by card.md.
"""

from collections.abc import Sequence

import jinja2
import numpy as np

from pipeline.base.escape import markdown
from pipeline.report import commits
from pipeline.report.found import Found, Model
from pipeline.report.page import TEMPLATES
from pipeline.report.words import counted

WEAKEST = 3  # classes that a card names


def card(model: Model, found: Found) -> str:
    """Markdown; what is said in names from elsewhere is escaped."""
    texts = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        trim_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    texts.filters |= {"md": markdown, "share": "{:.1%}".format, "thousands": "{:,}".format, "counted": counted}
    machines = (each.machine for each in model.evaluations)
    return texts.get_template("card.md").render(
        found=found,
        data=found.data,
        model=model,
        first=model.first,
        network=model.first.config["model"],
        train=model.first.config["train"],
        side=model.first.config["dataset"]["image_size"],
        weakest=weakest(model),
        commit=commits.named([model.first], found),
        seconds=mean(model.train_seconds),
        places=" and ".join(dict.fromkeys(markdown(f"{each.device} ({each.processor})") for each in machines)),
    )


def weakest(model: Model) -> list[tuple[str, float, int]]:
    """The classes that are found least, which a mean hides: the mean recall of each, and how many images it has."""
    found = []
    for rows in zip(*(each.classes for each in model.evaluations), strict=True):
        recalls = [row.recall for row in rows if row.recall is not None]
        if recalls:
            found.append((rows[0].name, float(np.mean(recalls)), rows[0].support))
    return sorted(found, key=lambda each: each[1])[:WEAKEST]


def mean(values: Sequence[float]) -> str:
    """52.9 ± 0.3: the mean, and the standard deviation where there are several."""
    text = f"{np.mean(values):,.1f}"
    return text if len(values) == 1 else f"{text} ± {np.std(values, ddof=1):,.1f}"
