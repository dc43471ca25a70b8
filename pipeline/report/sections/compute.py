"""compute: what training took, and what each model had reached with as much of it as the cheapest took in all."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from pipeline.base.quantities import duration, quantity, short, size
from pipeline.records.dataset import Dataset
from pipeline.records.evaluation import Evaluation
from pipeline.report import drawing
from pipeline.report.drawing import BOLD, PALETTE, SOFT, style
from pipeline.report.found import Found, Model
from pipeline.report.section import Section
from pipeline.report.table import Table
from pipeline.report.words import DASH, NOT_MEASURED, mean_and_interval, score
from pipeline.scoring.intervals import over_replicates

Floats = npt.NDArray[np.float64]
TITLES = {"seconds": "time", "flops": "FLOPs", "images": "images"}  # what can be made equal
SHOWN = {"seconds": duration, "flops": quantity, "images": short}
PASSES = 3  # forward passes that a step on an image is worth: one forward, a backward that is worth two


@dataclass(frozen=True)
class Budget:
    """The least that a model of the study took of something, and what each model had reached within it."""

    of: str  # a name of TITLES
    model: str
    amount: float
    reached: Mapping[str, Floats]  # of each model that was validated, (R,)

    @property
    def leader(self) -> tuple[str, float]:
        """The model of the highest mean, and that; of those of which every replicate got through an epoch."""
        means = {name: float(np.mean(values)) for name, values in self.reached.items()}
        known = {name: mean for name, mean in means.items() if not math.isnan(mean)}
        return max(known.items(), key=lambda each: each[1])

    @property
    def text(self) -> str:
        return SHOWN[self.of](self.amount)


def section(found: Found) -> Section:
    costs = {model.name: costs_of(model, found.data) for model in found.models}
    made = budgets(found, costs)
    text = sentence(found, made) if made else ""
    figures = {"compute": compute_figure(found.colours, curves(found, costs), made)} if made else {}
    return Section(
        "Compute",
        {"sentence": text},
        (compute_table(found, costs, made),),
        figures,
    )


# what training took

Costs = Mapping[str, float]  # of a training in the mean, by the names of TITLES; without what is not known


def costs_of(model: Model, data: Dataset) -> Costs:
    """Of a model that was taught the time alone, with its teachers': their passes and images are not counted."""
    found = {"seconds": model.mean_train_seconds}
    if model.teacher:
        return found
    images = [
        images_of_epoch(each, data) * len(run) for each, run in zip(model.evaluations, model.histories, strict=True)
    ]
    if not all(images):
        return found
    found["images"] = float(np.mean(images))
    if per_image := flops_per_image(model):
        found["flops"] = per_image * found["images"]
    return found


def images_of_epoch(evaluation: Evaluation, data: Dataset) -> int:
    """How many images a training saw in each epoch; 0 where an earlier version did not say."""
    if evaluation.train_images is not None:
        return evaluation.train_images
    whole = not data.replicates and evaluation.config["model"].get("train_fraction", 1) == 1
    return sum(each.train for each in data.classes) if whole else 0


def flops_per_image(model: Model) -> int | None:
    """What a step takes for each image; SAM takes two. None where a part of the network stood frozen."""
    protocol = model.first.config["train"]
    if protocol.get("tune", "full") != "full":
        return None
    return PASSES * (2 if protocol.get("sam") else 1) * model.first.cost.flops


# scores at equal compute


def budgets(found: Found, costs: Mapping[str, Costs]) -> list[Budget]:
    """What the cheapest of the validated models took of each; nothing of fewer than two, or of what all took alike."""
    histories = validation(found)
    before = {model.name: model.teacher_seconds for model in found.models}  # 0 where none taught, as of other costs
    made = []
    for kind in TITLES:
        known = {name: costs[name][kind] for name in histories if kind in costs[name]}
        if len(known) < 2 or len({*known.values()}) == 1:
            continue
        least = min(known, key=lambda name: known[name])
        reached = {
            name: np.array([best_within(run, cost, known[least], before[name]) for run in histories[name]])
            for name, cost in known.items()
        }
        made.append(Budget(kind, least, known[least], reached))
    return made


def best_within(scores: Floats, cost: float, budget: float, before: float = 0.0) -> float:
    """The best score after an epoch, of scores (E,), within a budget; NaN where no epoch fits into it.

    `cost` is that of all epochs, which take as much each, and of what was spent `before` them, on teachers.
    """
    epochs = int(max(len(scores) * (budget - before) / (cost - before), 0) + 1e-9)
    return float(scores[:epochs].max()) if epochs else math.nan


def validation(found: Found) -> dict[str, list[Floats]]:
    """Validation macro-F1 after each epoch, (E,), of each replicate of the models that have it."""
    return {
        model.name: [run["val_macro_f1"].to_numpy() for run in model.histories]
        for model in found.models
        if model.validated
    }


def sentence(found: Found, made: Sequence[Budget]) -> str:
    """Which model leads by mean validation macro-F1 at each budget, and with all that each took."""
    whole = {name: float(np.mean([run.max() for run in runs])) for name, runs in validation(found).items()}
    best = max(whole, key=lambda name: whole[name])
    given = [f"at equal {TITLES[each.of]} ({each.text}, all of {each.model}'s)" for each in made]
    leaders = [each.leader for each in made]
    if all(name == best for name, _ in leaders):
        return f"{best} leads by mean validation macro-F1 {', '.join(given)} and with all that each took."
    parts = [f"{what} {name} leads ({score(mean)})" for what, (name, mean) in zip(given, leaders, strict=True)]
    parts.append(f"with all that each took, {best} does ({score(whole[best])})")
    return f"By mean validation macro-F1, {'; '.join(parts)}."


def compute_table(found: Found, costs: Mapping[str, Costs], made: Sequence[Budget]) -> Table:
    equal = [f"Macro-F1 at equal {TITLES[each.of]}" for each in made]
    header = ("Model", "Training", "FLOPs", "Images seen", "Peak memory", "Energy", *equal, "n")
    cells, rows = [], []
    for model in found.models:
        taken = costs[model.name]
        peak = model.taken("peak_memory_bytes")
        shown = (SHOWN[kind](taken[kind]) if kind in taken else untold(model, kind) for kind in TITLES)
        memory = size(float(np.mean(peak))) if peak else NOT_MEASURED
        scores = [interval(each.reached.get(model.name)) for each in made]
        texts = (mean_and_interval(*each) for each in scores)
        cells.append((model.name, *shown, memory, model.energy or NOT_MEASURED, *texts, str(model.replicates)))
        rows.append(numbers(model, taken, dict(zip((each.of for each in made), scores, strict=True))))
    return Table("compute", caption(found, made), pd.DataFrame(rows), header, tuple(cells))


def untold(model: Model, kind: str) -> str:
    """Why there is no number: a dash for what is not counted, FLOPs above all."""
    return DASH if model.teacher or (kind == "flops" and flops_per_image(model) is None) else NOT_MEASURED


def interval(reached: Floats | None) -> tuple[float, float, float]:
    """Mean and 95% interval over replicates; NaN where there is none."""
    if reached is None or np.isnan(reached).any():
        return math.nan, math.nan, math.nan
    return over_replicates(reached).numbers if len(reached) > 1 else (float(reached[0]), math.nan, math.nan)


def numbers(model: Model, taken: Mapping[str, float], scores: Mapping[str, tuple[float, ...]]) -> dict[str, object]:
    """A model's row: what it took in the mean, and what it had reached."""
    names = ("peak_memory_bytes", "processor_joules", "gpu_joules")
    used = {name: float(np.mean(values)) if (values := model.taken(name)) else math.nan for name in names}
    found = {
        f"at_equal_{kind}{end}": value
        for kind, each in scores.items()
        for end, value in zip(("", "_low", "_high"), each, strict=True)
    }
    spent = {f"train_{kind}": taken.get(kind, math.nan) for kind in TITLES}
    return {"model": model.name, **spent, **used, **found, "n": model.replicates}


def caption(found: Found, made: Sequence[Budget]) -> str:
    text = (
        f"{found.title}: what a training took, means over {found.first.n}. FLOPs: three forward passes for each image"
        " that training saw, six with SAM; not counted where a part of the network is frozen. Peak memory: of tensors"
        " on a GPU, of the process on a CPU. Energy: of all that ran on the processor (RAPL) and the GPU (NVML)"
        " meanwhile, where the machine tells."
    ) + " Trials of settings are not counted." * bool(found.tuning.chosen)
    if any(model.teacher for model in found.models):
        text += (
            " Time of models that were taught begins with the training of their teachers; their FLOPs and images, which"
            " have the teachers' passes in them, are not counted (a dash)."
        )
    if made:
        text += (
            " Macro-F1 at equal compute: the best validation score after an epoch that fits into what the cheapest"
            " model took, with 95% intervals over replicates where there are several. Schedules were made for all"
            " epochs: a model that is to stop earlier would be trained otherwise, and stand higher."
        )
    return text


# figures


def curves(found: Found, costs: Mapping[str, Costs]) -> pd.DataFrame:
    """A row for each epoch of each training: what it had taken, and the best validation score so far."""
    parts = []
    before = {model.name: model.teacher_seconds for model in found.models}
    for name, runs in validation(found).items():
        for replicate, scores in enumerate(runs):
            share = np.arange(1, len(scores) + 1) / len(scores)
            taken = {kind: share * costs[name].get(kind, math.nan) for kind in TITLES}
            taken["seconds"] += (1 - share) * before[name]
            best = np.maximum.accumulate(scores)
            parts.append(pd.DataFrame({"model": name, "replicate": str(replicate), "score": best, **taken}))
    return pd.concat(parts, ignore_index=True)


@style()
def compute_figure(tones: Mapping[str, str], table: pd.DataFrame, made: Sequence[Budget]) -> Figure:
    """Best validation macro-F1 so far against what training took: a panel for each budget, a colour for each model.

    More models than there are colours have a panel each, against the first of the budgets.
    """
    if len(tones) > len(PALETTE):
        return _panel_for_each(table, made[0].of)
    figure = Figure(figsize=(10.4, 3.9), layout="constrained")
    panels = drawing.panels(
        figure, [f"By {TITLES[each.of]}" for each in made], len(made), up="validation macro-F1", sharey=True
    )
    for panel, each in zip(panels, made, strict=True):
        for name in each.reached:
            drawing.curves(panel, table[table["model"] == name], each.of, "score", tones[name])
        panel.axvline(each.amount, color=SOFT, linewidth=1, linestyle=drawing.DASHED)
        _across(panel, each.of)
    drawing.key(figure, {name: {"color": tones[name], **BOLD} for name in dict.fromkeys(table["model"])})
    return figure


def _panel_for_each(table: pd.DataFrame, kind: str) -> Figure:
    known = table[table[kind].notna()]
    figure, panels = drawing.by_model(list(dict.fromkeys(known["model"])), "", "validation macro-F1")
    drawing.compare(panels, known, kind, "score")
    for panel in panels.values():
        _across(panel, kind)
    return figure


def _across(panel: Axes, kind: str) -> None:
    """What lies across, by its logarithm; in the lowest panels alone, where there are rows."""
    if panel.xaxis.get_tick_params()["labelbottom"]:
        panel.set_xlabel(f"{TITLES[kind]} of training{' (s)' if kind == 'seconds' else ''}")
    panel.set_xscale("log")
    panel.xaxis.set_major_locator(LogLocator(subs=(1, 3), numticks=7))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
