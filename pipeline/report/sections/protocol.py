"""protocol: what was held equal, the resolved settings, the networks; what nothing reads is left out."""

from pipeline.params.inert import inert
from pipeline.params.settings import PLACES
from pipeline.report.found import Found, Model
from pipeline.report.section import Section
from pipeline.report.words import DASH, setting

Rows = list[tuple[str, str]]  # a setting and its value, as text


def section(found: Found) -> Section:
    words = {
        "own": {model.name: model.overrides for model in found.models if model.overrides},
        "parts": {**of_the_data(found), **of_the_training(found)},
        "networks": networks(found),
    }
    return Section("Protocol", words)


def of_the_data(found: Found) -> dict[str, Rows]:
    official = [f"{split}_fraction" for split in ("val", "test") if found.data.published.get(split)]
    parts = {}
    for name, part in (("dataset", found.settings.dataset), ("split", found.settings.split)):
        content = part.model_dump(exclude=PLACES)
        content |= dict.fromkeys(set(official) & content.keys(), "not used: the official split was kept")
        if name == "split" and found.data.vary != "none" and "val_fraction" in official:
            content["val_fraction"] = "not used: as many validation images as officially, drawn anew"
        unread = inert(name, content)
        parts[name] = [(key, setting(value)) for key, value in content.items() if key not in unread]
    return parts


def of_the_training(found: Found) -> dict[str, Rows]:
    """Resolved settings; one that differs between models names the models."""
    parts = {}
    for name in ("augment", "train"):
        keys = dict.fromkeys(key for model in found.models for key in model.first.config[name])
        rows = [(key, of_all_models(found, name, key)) for key in keys]
        parts[name] = [(key, text) for key, text in rows if text]
    return parts


def of_all_models(found: Found, part: str, key: str) -> str:
    """lr: 0.001 (cnn); 0.01 (vit); empty where nothing reads it, as the other settings are"""
    values: dict[str, list[str]] = {}
    readers = [model for model in found.models if key not in inert(part, model.first.config[part])]
    for model in readers:
        values.setdefault(resolved(model, part, key, found.data.flip), []).append(model.name)
    if len(values) == 1 and len(readers) == len(found.models):
        return next(iter(values))
    return "; ".join(f"{value} ({', '.join(names)})" for value, names in values.items())


def resolved(model: Model, part: str, key: str, flip: bool) -> str:
    """A setting as it took effect: `auto` and a flip that the data set forbids say what came of them."""
    if part == "train" and key in ("device", "precision"):
        return ", ".join(dict.fromkeys(getattr(evaluation.machine, key) for evaluation in model.evaluations))
    if part == "augment" and key == "flip" and not flip:
        return "no, it would change classes of this data set"
    return setting(model.first.config[part].get(key))


def networks(found: Found) -> list[tuple[str, list[str]]]:
    """Every model setting with its value for each model, a dash where a model has no such setting."""
    all_of = [model.first.config["model"] for model in found.models]
    configs = [{key: each[key] for key in each if key not in inert("model", each)} for each in all_of]
    keys = dict.fromkeys(key for config in configs for key in config if key != "train")
    return [(key, [setting(config[key]) if key in config else DASH for config in configs]) for key in keys]
