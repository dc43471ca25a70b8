"""A model card (Mitchell et al. 2019, arXiv:1810.03993) for each model: what it is for, what it is not for, on what it
was trained, how well it did. Text from evaluate's results and reports/data.json alone.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.base.escape import markdown
from pipeline.scoring.intervals import Interval

EXPRESSIONS = """\
**It does not recognise emotions.** It sorts pictures of faces by the label that annotators would give to the visible
expression. What a person feels cannot be read reliably from the face: people in the same state move their faces
differently, and the same expression has many causes (Barrett et al. 2019, doi:10.1177/1529100619832930). Posed,
acted and searched-for pictures are not everyday faces. Error rates differ between groups of people, and this study
measured none of that: the data name no age, skin tone or origin.

Do not use it to judge a person: not for hiring, policing, border control, credit, insurance, school, care, or detecting
lies. The European Union's AI Act (Regulation 2024/1689, article 5) forbids inferring emotions of people at work and in
education with such systems, but for medical or safety reasons."""


def card(evaluations: Sequence[Mapping[str, Any]], scores: Mapping[str, Interval], data: Mapping[str, Any]) -> str:
    """Markdown; `evaluations` are one model's, one per replicate, `scores` the intervals that the report gives.

    What is said in names from elsewhere is escaped.
    """
    first = evaluations[0]
    network, images = first["config"]["model"], first["images"]
    name = markdown(data["title"] + (f" ({data['variant']})" if data["variant"] else ""))
    seconds = [each["cost"]["train_seconds"] for each in evaluations]
    lines = [
        f"# {markdown(first['model'])}",
        f"An image classifier of study {markdown(data['study'])}:"
        f" {markdown(network.get('backbone') or 'small convolutional network')}"
        f" ({network['family']}), {first['cost']['parameters']:,} parameters, images of"
        f" {first['config']['dataset']['image_size']} x {first['config']['dataset']['image_size']} pixels,"
        f" {len(data['classes'])} classes: {', '.join(markdown(row['class']) for row in data['classes'])}.",
        "## Use",
        "To compare families of networks under one protocol, and to repeat that comparison. It was not made for"
        " decisions about people or things, and was tested on nothing but the images named here: on others, measure it."
        " It answers every image with one of its classes, also where none fits.",
        *([EXPRESSIONS] if data["expressions"] else []),
        "## Scores",
        _scores(evaluations, scores, name, images),
        _per_class(evaluations),
        "## Training",
        _training(evaluations, data, name),
        data["caveats"],
        "## Cost",
        f"{_mean(seconds)} s of training per replicate (n = {len(seconds)}) on {_places(evaluations)}, with"
        f" {first['machine']['precision']}; {first['cost']['flops'] / 1e6:,.1f} million floating-point operations for"
        f" one {'view of an ' * (first['config']['augment'].get('test_crops', 1) > 1)}image;"
        f" {first['cost']['weight_bytes'] / 1e6:.2f} MB of weights. Energy was not measured.",
        "## Licences",
        _licences(first["initialisation"], data),
        f"Commit of the training: {first['run']['commit'] or 'not known'}; {first['run']['started']}.",
    ]
    return "\n\n".join(line for line in lines if line) + "\n"


def _scores(evaluations: Sequence[Mapping[str, Any]], scores: Mapping[str, Interval], name: str, images: int) -> str:
    n = len(evaluations)
    over = f"n = {n} replicates, Student t" if n > 1 else "percentile bootstrap over test images; n = 1 replicate"
    rows = [
        f"| {key.replace('_', ' ')} | {each.mean:.4f} | {each.low:.4f} to {each.high:.4f} |"
        for key, each in scores.items()
    ]
    return (
        f"{name}, {images:,} test images, scored once; 95% intervals ({over}).\n\n| score | mean | interval |\n"
        "| :--- | ---: | ---: |\n" + "\n".join(rows)
    )


def _per_class(evaluations: Sequence[Mapping[str, Any]]) -> str:
    """The weakest classes, which a mean hides."""
    found = {}
    for rows in zip(*(each["classes"] for each in evaluations), strict=True):
        recalls = [row["recall"] for row in rows if row["recall"] is not None]
        if recalls:
            found[rows[0]["class"]] = float(np.mean(recalls)), rows[0]["support"]
    weakest = sorted(found.items(), key=lambda entry: entry[1][0])[:3]
    texts = [f"{markdown(name)} {recall:.1%} (of {support:,})" for name, (recall, support) in weakest]
    return f"Share of a class's test images that it finds, lowest first: {', '.join(texts)}."


def _training(evaluations: Sequence[Mapping[str, Any]], data: Mapping[str, Any], name: str) -> str:
    first = evaluations[0]
    counts = [row["train"] for row in data["classes"]]
    train, validating = first["config"]["train"], sum(row["val"] for row in data["classes"])
    told = "by which the epoch was chosen" if train["select"] == "best" else "which chose no epoch"
    if train.get("include_validation"):
        told = "trained on too"
    text = (
        f"{sum(counts):,} training images of {name}, {min(counts):,} to {max(counts):,} per class, and"
        f" {validating:,} validation images, {told}; {train['epochs']} epochs, {markdown(first['initialisation'])}."
    )
    if data["imbalance"] != 1:
        text += f" The training images were thinned on purpose, to {data['imbalance']:g} : 1 from class to class"
        text += "; the validation images were not." if train.get("include_validation") else "."
    return text


def _licences(initialisation: str, data: Mapping[str, Any]) -> str:
    source = f" ({data['homepage']})" if data["homepage"] else ""
    text = f"Images: {data['licence'] or 'not stated; ask their owner'}{source}. "
    if initialisation == "from scratch":
        return text + "Weights: trained from scratch; what the images' licence says of derived works holds for them."
    return (
        text
        + f"Weights: begun from {markdown(initialisation)}; its licence is on that model's page, and holds for what was"
        " trained from it. ImageNet's images, where it saw them, are for non-commercial research and education."
    )


def _places(evaluations: Sequence[Mapping[str, Any]]) -> str:
    machines = [each["machine"] for each in evaluations]
    return " and ".join(dict.fromkeys(markdown(f"{each['device']} ({each['processor']})") for each in machines))


def _mean(values: Sequence[float]) -> str:
    mean = f"{np.mean(values):,.1f}"
    return mean if len(values) == 1 else f"{mean} ± {np.std(values, ddof=1):,.1f}"
