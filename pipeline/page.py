"""The report page: one self-contained HTML file, its sections from templates/sections/."""

import base64
import contextlib
import io
import json
import math
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.dom import NotFoundErr, minidom

import jinja2
import numpy as np
from markupsafe import Markup

from pipeline import figures, learning_curve, metrics, pairs, params, scorecard, stats, tables, verdicts
from pipeline.picture import opened
from pipeline.results import SPLITS, Trained, caption_name, enumerated, overrides, places, ranking, setting, timed_on
from pipeline.stage import checkout, study

UNWRITABLE = "[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]"  # characters that XML has no place for
SILENT = ("#comment", "metadata", "style")  # of a figure: a style of its own would be the whole page's
TEMPLATES = Path(__file__).parent / "templates"
MISTAKE = 144  # pixels a side at most, twice as many as the page shows


# of the page, from top to bottom: the name of a file in templates/sections/, and its title in the list of sections
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
    settings: params.Params,
    data: Mapping[str, Any],
    models: Sequence[Trained],
    overview: tables.Table,
    timed: tables.Table | None,
    tested_pairs: Sequence[pairs.Pair],
    held: str,
    verdict: tables.Table | None,
    lines: Sequence[scorecard.Line],
    card: tables.Table | None,
    reports: Sequence[tables.Table],
    believed: tables.Table,
    inflated: tables.Table | None,
    explanations: Mapping[str, Any] | None,
    checkup: Mapping[str, Any],
    drawn: Mapping[str, Path],
    augmentation: Path,
    learnt: learning_curve.Curves,
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
        colours=figures.colours([model.name for model in models]),
        figures={key: inline_svg(path, key) for key, path in drawn.items()},
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
        learnt_texts=learning_curve.sentences(learnt),
        matrix=verdicts.matrix(tested_pairs, ranking(models)) if len(tested_pairs) > verdicts.FEW else [],
        held=held,
        card=card,
        verdicts=list(zip(lines, card.cells, strict=True)) if card else [],
        summary=f"{scorecard.sentence(lines)} {scorecard.other_images(data['variant'])}".strip() if lines else "",
        # cost, confusion, classes, training
        latency=latency_caption(models, data) if "latency" in drawn else "",
        confusion=embedded(confusion(models, data)),
        hardest=min(len(data["classes"]), figures.PANELS),
        reports=list(zip([model.name for model in models], reports, strict=True)),
        unvalidated=unvalidated(models),
        averaged=[
            model.name
            for model in models
            if model.validated and model.evaluations[0]["config"]["train"]["select"] == "average"
        ],
        many=len(models) > len(figures.PALETTE),  # more than training_curves tells apart in one panel
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


def facts(models: Sequence[Trained], data: Mapping[str, Any]) -> list[tuple[str, str]]:
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


def confusion(models: Sequence[Trained], data: Mapping[str, Any]) -> dict[str, Any]:
    """What the page's script draws the confusion matrices of two models from: counts summed over replicates."""
    tones = figures.colours([model.name for model in models])
    return {
        "classes": [each["class"] for each in data["classes"]],
        "models": [
            {"name": model.name, "colour": tones[model.name], "counts": model.confusions.sum(0).tolist()}
            for model in models
        ],
    }


def embedded(content: object) -> Markup:
    """JSON to stand in a script element: no text in it ends the element or opens a comment."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return Markup(text.replace("<", r"\u003c").replace("&", r"\u0026"))


def data_uri(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def lossless(png: bytes, most: int | None = None) -> str:
    """The same pixels in about half the bytes; of a picture with a side of more than `most` pixels, fewer."""
    picture = opened(png, "a picture of the report")
    if most:
        picture.thumbnail((most, most))
    webp = io.BytesIO()
    picture.save(webp, "webp", lossless=True, method=6)
    return data_uri(min(webp.getvalue(), png, key=len), "webp" if webp.tell() < len(png) else "png")


def percent(value: float | None) -> str:
    """0.98765 -> 98.7%, rounded down: no 100% for what is less; a dash where undefined."""
    return tables.DASH if value is None else f"{math.floor(1000 * value) / 10:.1f}%"


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
        return f"{enumerated(tied)} share the highest {score}, {value}."
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
        return f", {enumerated(found)}" if found else ", none across splits"

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
        for key in dict.fromkeys(key for model in models for key in model.evaluations[0]["config"][name]):
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
    return [
        (name, [{**each, "src": lossless(base64.b64decode(each["png"]), MISTAKE)} for each in images])
        for name, images in found
        if images
    ]


def first_alone(model: Trained) -> str:
    """The accuracy of the first of several views, where evaluations have it."""
    found = [each["one_view"]["accuracy"] for each in model.evaluations if each.get("one_view")]
    return f"; of the first alone its accuracy is {tables.score(float(np.mean(found)))}" if found else ""


def unvalidated(models: Sequence[Trained]) -> list[str]:
    """The models that were trained on the validation images too."""
    return [model.name for model in models if not model.validated]


def latency_caption(models: Sequence[Trained], data: Mapping[str, Any]) -> str:
    images, first = len(models[0].actual), models[0].timings
    batch = first[0]["cpu_batch"]
    timed = min(each["cpu_images"] for model in models for each in model.timings)
    return (
        f"Forward pass over the {images:,} test images of {caption_name(data)} on the CPU"
        f" ({timed_on(models)}), in float32, {batch} at a time"
        + (f"; reckoned from {timed:,} of them" if timed < images else "")
        + (f". Bars: means over {models[0].timed_over}; dots: each." if len(first) > 1 else "; n = 1 replicate.")
    )


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
    if including := unvalidated(models):
        names = "all models" if len(including) == len(models) else enumerated(including)
        notes.append(
            f"Trained on the validation images too: {names}. There are no validation scores of them and no"
            " temperatures; what their settings were chosen by, the study has to say."
        )
    if several := [model for model in models if model.views > 1]:
        notes.append(
            "Scored as the mean of several views of each image: "
            + enumerated([f"{model.name} ({model.views} views{first_alone(model)})" for model in several])
            + ". What was timed goes over all views; FLOPs and the classes compared with ONNX Runtime's are of one."
        )
    if data["variant"]:
        notes.append(f"The images are not the official data set but a variant of it: {data['variant']}.")
    if data.get("caveats"):
        notes.append(data["caveats"])
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
    if any(overrides(model) for model in models):
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
        return enumerated(list(dict.fromkeys(f"{machine[key]}{unit}" for machine in machines)))

    versions = [
        f"{title} {named(key)}" for key, title in (("torch", "PyTorch"), ("timm", "timm"), ("python", "Python"))
    ]
    return [
        (
            "Trainings",
            f"{len(evaluations)} ({len(models)} models × {models[0].n.removeprefix('n = ')}),"
            f" {enumerated(epochs)} epochs each",
        ),
        ("Training time", tables.duration(sum(evaluation["cost"]["train_seconds"] for evaluation in evaluations))),
        ("Started", f"{min(starts)[:16].replace('T', ' ')} to {max(starts)[:16].replace('T', ' ')} UTC"),
        ("Code", f"commit {enumerated(commits)}"),
        ("Device", named("device")),
        ("Processor", f"{named('processor')}; {named('threads')} threads"),
        ("Precision", named("precision")),
        ("Software", ", ".join(versions)),
    ]


def inline_svg(path: Path, name: str) -> Markup:
    """A figure to stand in the page: ids of its own, colours and font those of the page, width as the page has room.

    Only attributes are changed, which matplotlib wrote; text, which has the names of classes, stays as it is. Without
    its DOCTYPE a file has no entities to expand.
    """
    svg = path.read_text(encoding="utf-8")
    document = minidom.parseString(re.sub(UNWRITABLE, "\ufffd", svg[svg.index("<svg") :]).encode())
    root: Any = document.documentElement
    points = float(root.getAttribute("width").removesuffix("pt"))
    for each in ("width", "height"):
        root.removeAttribute(each)
    for element in [*_elements(root)]:
        _prune(element)
        for key, value in element.attributes.items():
            element.setAttribute(key, _of_the_page(key, value, name))
    looks = classed(root, name)
    style = document.createElement("style")
    style.appendChild(document.createTextNode("\n" + "".join(f".{each}{{{look}}}\n" for look, each in looks.items())))
    root.insertBefore(style, root.firstChild)
    opening = {"aria-hidden": "true", "style": f"min-width:{0.85 * points:.0f}px;max-width:{1.5 * points:.0f}px"}
    for key, value in opening.items():  # the figure has the text; a point is 4/3 px
        root.setAttribute(key, value)
    return Markup(root.toxml())


def _elements(root: Any) -> Iterator[Any]:
    yield root
    yield from root.getElementsByTagName("*")


def _prune(element: Any) -> None:
    """Take off what says nothing in the page."""
    blank = False  # whether what stands before is
    for child in [*element.childNodes]:
        after, blank = blank, child.nodeType == child.TEXT_NODE and not child.data.strip()
        if blank and not after:
            child.data = "\n"
        elif blank or child.nodeName in SILENT or (child.nodeName == "g" and not child.childNodes):
            element.removeChild(child)
            blank = after
    if element.nodeName == "g" and not element.getAttribute("id").startswith("figure_") and element.hasAttribute("id"):
        element.removeAttribute("id")
    if element.getAttribute("transform").startswith("rotate(-0 "):
        element.removeAttribute("transform")


def _of_the_page(key: str, value: str, name: str) -> str:
    """An attribute's value with ids, colours, font and precision of the page."""
    if key in ("d", "points", "x", "y"):
        return shortened(value)
    if key == "id":
        return f"{name}-{value}"
    if key.endswith("href"):
        return re.sub("^#", f"#{name}-", value)
    value = value.replace("url(#", f"url(#{name}-")
    for tone in ("INK", "SOFT", "GHOST", "FAINT", "PAPER"):
        value = value.replace(getattr(figures, tone), f"var(--{tone.lower()})")
    return re.sub(r"font-family: [^;]*", "font-family: var(--sans)", value)


def classed(root: Any, name: str) -> dict[str, str]:
    """Have elements name what they look like instead of each spelling it out: a third of the bytes.

    Returns the name of each look.
    """
    looks: dict[str, str] = {}
    for element in _elements(root):
        if not element.hasAttribute("style"):
            continue
        clip = f"clip-path: {element.getAttribute('clip-path')}; " if element.hasAttribute("clip-path") else ""
        look = clip + element.getAttribute("style")
        for key in ("clip-path", "style"):
            with contextlib.suppress(NotFoundErr):
                element.removeAttribute(key)
        element.setAttribute("class", looks.setdefault(look, f"{name}-{len(looks)}"))
    return looks


def shortened(numbers: str) -> str:
    """Coordinates to a tenth of a point, a path's command said once for all its points: nobody sees it."""
    kept, command = [], ""
    for token in numbers.split():
        if not token.isalpha():
            kept.append(f"{float(token):.1f}".removesuffix(".0"))
        elif token == "M" or (token != command and (command, token) != ("M", "L")):  # after M, points are joined
            kept.append(command := token)
    return " ".join(kept)
