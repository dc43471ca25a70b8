"""Forms that a paper wants, from what the study's files say: its set-up paragraph and a reproducibility checklist.

The checklist is version 2.0 of Pineau et al. (2021, JMLR 22), which NeurIPS's grew out of. Every answer names the file
that it comes from; what no file says is *not known*, and for the authors to answer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ruamel.yaml import YAML

from pipeline.base import escape
from pipeline.base.places import checkout
from pipeline.base.quantities import duration, enumerated, quantity
from pipeline.records.dataset import SPLITS
from pipeline.records.looks import trained
from pipeline.report.commits import UNKNOWN, named
from pipeline.report.found import Found, Model, each_once
from pipeline.report.sections.protocol import of_all_models
from pipeline.report.sections.rerun import command
from pipeline.report.sections.tuning import budget_sentence, spaces
from pipeline.report.words import counted

FOLDER = Path("reports/paper")
LOCK = Path("dvc.lock")


@dataclass(frozen=True)
class Answer:
    """One question of the checklist; without an answer it is not known."""

    group: str
    question: str
    answer: str = ""
    source: str = ""  # files


TRAINING = (  # settings of `train` that the paragraph names
    *("epochs", "batch_size", "optimizer", "lr", "weight_decay", "schedule", "warmup_epochs"),
    *("loss", "label_smoothing", "class_weights", "sampler"),
)

# the set-up paragraph


def setup(found: Found) -> str:
    """How the study was done, in the sentences of a paper."""
    return " ".join(
        [networks(found), images(found), training(found), choice(found), statistics(found), machines(found)]
    )


def networks(found: Found) -> str:
    named = [f"{each.name} ({what(each)}, {quantity(each.first.cost.parameters)} parameters)" for each in found.models]
    starts = each_once(model.first.initialisation for model in found.models)
    return f"We compare {enumerated(named)}; initialisation: {starts}."


def what(model: Model) -> str:
    """timm resnet18"""
    network = model.first.config["model"]
    return f"{network['family']} {network.get('backbone', '')}".rstrip()


def images(found: Found) -> str:
    """The data set, its splits, and what was done to its images."""
    data, side = found.data, found.settings.dataset.image_size
    official = enumerated([SPLITS[split] for split in SPLITS if data.published.get(split)])
    split = f"its official {official} images kept" if official else "split at random, stratified by class"
    if folds := data.cross_validation:
        split = f"in {folds.folds} folds by {folds.by}"
    thinned = f", training images thinned to {data.imbalance:g} : 1 from class to class" * (data.imbalance != 1)
    return (
        f"The data set is {found.title}: {counts(found)} images in {len(data.names)} classes, {split}{thinned}, at"
        f" {side} x {side} pixels."
    )


def counts(found: Found) -> str:
    """586 training, 288 validation and 360 test"""
    return enumerated([f"{sum(found.data.images(split)):,} {title}" for split, title in SPLITS.items()])


def training(found: Found) -> str:
    """What determines a training; a setting that differs names the models."""
    of = {key: of_all_models(found, "train", key) for key in TRAINING}
    epochs, warm = (f"{of[key]} epoch{'s' * (of[key] != '1')}" for key in ("epochs", "warmup_epochs"))
    warm_up = f" with {warm} of warm-up" if of["warmup_epochs"] else ""
    strength, flip = (of_all_models(found, "augment", key) for key in ("strength", "flip"))
    return (
        f"Each model is trained for {epochs}, batches of {of['batch_size']} images, by {of['optimizer']}"
        f" (learning rate {of['lr']}, weight decay {of['weight_decay']}, schedule"
        f" {of['schedule']}{warm_up}), loss {of['loss']} (label smoothing {of['label_smoothing']}, class"
        f" weights {of['class_weights']}), sampler {of['sampler']}, augmentation of strength {strength}, flips:"
        f" {flip or 'no'}."
    )


def choice(found: Found) -> str:
    """Which network of a training is scored, and how settings came about."""
    select = of_all_models(found, "train", "select")
    epoch = SELECTED.get(select, f"What is selected of a training ({select})")
    return f"{epoch} is scored once on the test images. {tuned(found)}"


SELECTED = {  # by train.select
    "best": "The epoch with the highest validation macro-F1",
    "last": "The last epoch's network",
    "average": "The average of a training's last networks",
}


def tuned(found: Found) -> str:
    """How settings came about, as far as the files say."""
    if not found.tuning.chosen:
        return "Settings were not searched by this pipeline."
    searched = enumerated([f"{key} ({text})" for key, text in spaces(found)])
    names = list(found.tuning.chosen)
    trials = budget_sentence(found, {name: found.tuning.of(name) for name in names})
    rest = [name for name in found.names if name not in names]
    untuned = f"; {enumerated(rest)} kept their settings" if rest else ""
    return f"Of {enumerated(names)}, {searched} were searched on validation images ({trials}){untuned}."


def statistics(found: Found) -> str:
    """What is repeated, and what intervals and verdicts rest on."""
    seeds = enumerated([str(each.replicate) for each in found.first.evaluations])
    what = f"in {found.first.repeated}" if found.first.folds else f"from {found.replicates} seeds ({seeds})"
    pairs = f" Pairs of models are compared over {found.covered}, Holm-adjusted, at 5%." if found.pairs else ""
    return f"Each model is trained {what}; we report macro-F1, accuracy and others with {found.basis}.{pairs}"


def machines(found: Found) -> str:
    """On what, with which software, from which commit."""
    return f"Trained on {found.places} ({processors(found)}); {software(found)}; commit {commits(found)}."


def processors(found: Found) -> str:
    return each_once(each.machine.processor for each in found.evaluations)


def software(found: Found) -> str:
    used = [each.machine for each in found.evaluations]
    return each_once(f"PyTorch {each.torch}, timm {each.timm}, Python {each.python}" for each in used)


def commits(found: Found) -> str:
    return named(found.evaluations, found, digits=12)


# the checklist

FORM = {  # group -> key -> question
    "Models and algorithms": {
        "model": "A clear description of the mathematical setting, algorithm, and/or model",
        "assumptions": "A clear explanation of any assumptions",
        "complexity": "An analysis of the complexity (time, space, sample size) of any algorithm",
    },
    "Theoretical claims": {
        "claim": "A clear statement of the claim",
        "proof": "A complete proof of the claim",
    },
    "Data sets": {
        "examples": "The relevant statistics, such as number of examples",
        "splits": "The details of train / validation / test splits",
        "processing": "An explanation of any data that were excluded, and all pre-processing steps",
        "link": "A link to a downloadable version of the data set or simulation environment",
        "collection": "For new data collected, a complete description of the data collection process",
    },
    "Code": {
        "dependencies": "Specification of dependencies",
        "training": "Training code",
        "evaluation": "Evaluation code",
        "weights": "(Pre-)trained model(s)",
        "command": "A table of results accompanied by the precise command to produce them",
    },
    "Experimental results": {
        "search": "The range of hyper-parameters considered, how the best were selected, and all that were used",
        "runs": "The exact number of training and evaluation runs",
        "measures": "A clear definition of the specific measures and statistics used to report results",
        "variation": "A description of results with central tendency and variation",
        "runtime": "The average runtime for each result, or estimated energy cost",
        "machines": "A description of the computing infrastructure used",
    },
}
EVALUATIONS = "reports/evaluations"
Said = Mapping[str, tuple[str, str]]  # key of a question -> answer and files


def checklist(found: Found) -> list[Answer]:
    """Every question, in the order of the form."""
    said = {**of_models_and_code(found), **of_data(found), **of_results(found)}
    questions = [(group, *item) for group, asked in FORM.items() for item in asked.items()]
    return [Answer(group, question, *said.get(key, ("", ""))) for group, key, question in questions]


def of_models_and_code(found: Found) -> Said:
    commit = f"the pipeline's, at commit {commits(found)}", EVALUATIONS
    costs = [(each.name, each.first.cost) for each in found.models]
    sizes = [f"{name} {quantity(cost.parameters)} parameters, {quantity(cost.flops)} FLOPs" for name, cost in costs]
    said = {
        "model": ("; ".join(f"{model.name}: {what(model)}" for model in found.models), "params.yaml"),
        "complexity": ("; ".join(sizes), EVALUATIONS),
        "training": commit,
        "evaluation": commit,
        "command": (command(found), "dvc.yaml, reports/tables/comparison.md"),
    }
    if (checkout() or Path()).joinpath("constraints.txt").exists():
        said["dependencies"] = f"pinned by version; {software(found)}", "constraints.txt"
    if weights := locked(found):
        said["weights"] = weights, str(LOCK)
    return said


def locked(found: Found) -> str:
    """Of how many trained networks dvc.lock has the checksums; empty where it has not those of all."""
    if not LOCK.exists():
        return ""
    stages = YAML(typ="safe", pure=True).load(LOCK.read_text(encoding="utf-8")).get("stages", {})
    names = [f"train@{each.model}-{each.replicate}" for each in found.evaluations]
    if not set(names) <= stages.keys():
        return ""
    return f"checksums of {counted(len(names), 'trained network')}; whether others can get their weights is {UNKNOWN}"


def of_data(found: Found) -> Said:
    data, dataset, source = found.data, found.settings.dataset, "reports/data.json"
    before = enumerated([f"{count:,} {SPLITS[split]}" for split, count in data.found.items()])
    processing = (
        f"{dataset.image_size} pixels a side ({dataset.resize}), normalised by {dataset.normalise}; images that are"
        f" there twice: {found.settings.split.duplicates}; before training images were thinned: {before} images"
    )
    said = {
        "examples": (f"{counts(found)} images in {len(data.names)} classes", source),
        "splits": (images(found), f"{source}, params.yaml"),
        "processing": (processing, f"params.yaml, {source}"),
    }
    if data.homepage:
        said["link"] = f"{data.homepage}; licence: {data.licence or UNKNOWN}", source
    return said


def of_results(found: Found) -> Said:
    seconds = enumerated([f"{each.name} {duration(each.mean_train_seconds)}" for each in found.models])
    how = "" if found.tuning.chosen else f" How they were come by is {UNKNOWN}."
    return {
        "search": (f"{tuned(found)} All that were used are in params.yaml.{how}", "params.yaml, reports/tuning.json"),
        "runs": (runs(found), f"{EVALUATIONS}, reports/tuning.json, reports/looks.jsonl"),
        "measures": (statistics(found), "reports/metrics.json"),
        "variation": (f"means with {found.basis}", "reports/tables/comparison.csv"),
        "runtime": (f"training: {seconds}; energy: {energy(found)}", EVALUATIONS),
        "machines": (machines(found), EVALUATIONS),
    }


def energy(found: Found) -> str:
    """What a training of each model took; not known where one was not measured."""
    known = [f"{each.name} {each.energy}" for each in found.models if each.energy]
    return enumerated(known) if len(known) == len(found.models) else UNKNOWN


def runs(found: Found) -> str:
    """How many trainings there were, trials too, and looks at the test images before them."""
    trials = sum(len(found.tuning.all_of(name)) for name in found.tuning.chosen)
    parts = [
        f"{counted(len(found.evaluations), 'training')} ({counted(len(found.models), 'model')},"
        f" {found.first.repeated}), each evaluated once"
    ]
    if trials:
        parts.append(f"{counted(trials, 'training')} of trials, which saw no test image")
    if found.earlier is not None:
        before = trained(found.earlier.looks)
        scored = f"{len(before)} other trained network{'s were' if len(before) != 1 else ' was'} scored"
        parts.append(f"{scored} on the test images before")
        if later := trained(found.earlier.since) - before:
            parts.append(f"{len(later)} of other settings since")
    else:
        parts.append(f"how often the test images were scored before is {UNKNOWN}")
    return "; ".join(parts)


# as Markdown and LaTeX


def setup_texts(text: str) -> dict[str, str]:
    """Files by name."""
    return {"setup.md": f"{escape.markdown(text)}\n", "setup.tex": f"{escape.latex(text)}\n"}


def checklist_texts(answers: Sequence[Answer]) -> dict[str, str]:
    """Files by name."""
    groups = dict.fromkeys(each.group for each in answers)
    plain, latex = [], []
    for group in groups:
        plain += [f"**{group}**", ""]
        latex += [rf"\paragraph{{{escape.latex(group)}}}", r"\begin{itemize}"]
        for each in (each for each in answers if each.group == group):
            answer, source = each.answer or UNKNOWN, f" ({each.source})" if each.source else ""
            plain.append(f"- {escape.markdown(each.question)}: {escape.markdown(answer + source)}")
            latex.append(rf"\item \emph{{{escape.latex(each.question)}}}: {escape.latex(answer + source)}")
        plain.append("")
        latex.append(r"\end{itemize}")
    return {"checklist.md": "\n".join(plain), "checklist.tex": "\n".join([*latex, ""])}
