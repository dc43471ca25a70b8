"""protocol: what was held equal, the resolved settings, the networks."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.params.study import Params
from pipeline.report import words
from pipeline.report.results import Model
from pipeline.report.words import setting


def protocol(
    settings: Params, data: Mapping[str, Any], models: Sequence[Model]
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


def resolved(model: Model, section: str, key: str, data: Mapping[str, Any]) -> str:
    """A setting as it took effect: `auto` and a flip that the data set forbids say what came of them."""
    if section == "train" and key in ("device", "precision"):
        return ", ".join(dict.fromkeys(evaluation["machine"][key] for evaluation in model.evaluations))
    if section == "augment" and key == "flip" and data.get("flip") is False:
        return "no, it would change classes of this data set"
    return setting(model.evaluations[0]["config"][section].get(key))


def networks(models: Sequence[Model]) -> list[tuple[str, list[str]]]:
    """Every model setting with its value for each model, a dash where a model has no such setting."""
    configs = [model.evaluations[0]["config"]["model"] for model in models]
    keys = dict.fromkeys(key for config in configs for key in config if key != "train")
    return [(key, [setting(config[key]) if key in config else words.DASH for config in configs]) for key in keys]
