"""What every caption has to say: what is scored, over how many replicates, on which machine."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.params import registry
from pipeline.report.results import Model
from pipeline.report.words import enumerated, setting

# words


def caption_name(data: Mapping[str, Any]) -> str:
    """The data set as captions name it: a variant always says so."""
    return f"{data['title']} ({data['variant']})" if data["variant"] else data["title"]


def tested(models: Sequence[Model], data: Mapping[str, Any]) -> str:
    """Digits, 360 test images"""
    folds = ", each in its fold's model" if models[0].folds else ""
    return f"{caption_name(data)}, {len(models[0].actual):,} test images{folds}"


def basis(models: Sequence[Model]) -> str:
    """What the intervals are taken over."""
    n = len(models[0].evaluations)
    if n > 1:
        return f"95% intervals over {models[0].n} (Student t)"
    return "95% intervals over test images (percentile bootstrap; n = 1 replicate)"


def places(models: Sequence[Model]) -> str:
    """The devices and precisions of all trainings."""
    machines = [evaluation["machine"] for model in models for evaluation in model.evaluations]
    return enumerated(list(dict.fromkeys(f"{machine['device']} in {machine['precision']}" for machine in machines)))


def ranking(models: Sequence[Model]) -> list[str]:
    """Names, the highest mean macro-F1 first."""
    return [model.name for model in sorted(models, key=lambda model: -model.scores["macro_f1"].mean)]


def overrides(model: Model) -> str:
    """Settings of this model's own, techniques within its network first; empty where it has none."""
    first = model.evaluations[0]
    network = first["config"]["model"]
    own = {key: network[key] for key in registry.TECHNIQUES if network.get(key)} | first["overrides"]
    return setting(own) if own else ""


def timed_on(models: Sequence[Model]) -> str:
    """AMD EPYC, 2 cores; 1 and 2 threads: what the latencies were measured on."""
    machines = {each["processor"] for model in models for each in model.timings}
    threads = sorted({each["cpu_threads"] for model in models for each in model.timings})
    counts = enumerated([str(count) for count in threads])
    return f"{enumerated(sorted(machines))}; {counts} thread{'s' * (threads != [1])}"
