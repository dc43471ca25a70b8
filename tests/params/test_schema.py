"""params.schema.json: current, true to what the pipeline refuses, and found by editors."""

import copy
import re
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipeline.base.errors import StageError
from pipeline.params import registry, schema
from pipeline.params.faults import parse
from tests import repo, small_study, trees

ROOT = Path(__file__).parents[2]
STUDIES = repo.studies()
SCHEMA = schema.json_schema()


def content(study: Path) -> Any:
    return YAML(typ="safe").load((study / "params.yaml").read_text(encoding="utf-8"))


KINDS = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None), "integer": int}


def faults(value: Any, rule: dict[str, Any], place: str = "") -> list[str]:
    """Where a value breaks a rule: the keywords of JSON schema that ours uses, and an AssertionError for others."""
    if "$ref" in rule:
        rule = SCHEMA["$defs"][rule["$ref"].removeprefix("#/$defs/")]
    notes = {"description", "default", "examples", "title", "discriminator", "$schema", "$defs", "$ref"}
    known = notes | {
        "type",
        "enum",
        "const",
        "pattern",
        "anyOf",
        "oneOf",
        "items",
        "properties",
        "additionalProperties",
    }
    known |= {"required", "minItems", "minProperties", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}
    known |= {"maxItems", "maxProperties", "maxLength"}
    assert set(rule) <= known, set(rule) - known
    found = []
    if "anyOf" in rule or "oneOf" in rule:
        members = rule.get("anyOf") or rule["oneOf"]
        fits = [member for member in members if not faults(value, member, place)]
        return [] if len(fits) == 1 or (fits and "anyOf" in rule) else [f"{place}: fits {len(fits)}"]
    kind = rule.get("type")
    number = isinstance(value, int | float) and not isinstance(value, bool)
    right = {
        "number": number,
        "integer": number and value == int(value),
        None: True,
    }.get(kind, isinstance(value, KINDS.get(kind or "", object)))
    if not right:
        return [f"{place}: no {kind}"]
    if ("enum" in rule and value not in rule["enum"]) or ("const" in rule and value != rule["const"]):
        found.append(f"{place}: no choice")
    if "pattern" in rule and not re.search(rule["pattern"], value):
        found.append(f"{place}: pattern")
    if isinstance(value, str) and len(value) > rule.get("maxLength", len(value)):
        found.append(f"{place}: too long")
    if number and not (
        rule.get("minimum", value) <= value <= rule.get("maximum", value)
        and rule.get("exclusiveMinimum", value - 1) < value < rule.get("exclusiveMaximum", value + 1)
    ):
        found.append(f"{place}: range")
    if isinstance(value, list):
        found += [f"{place}: too few"] * (len(value) < rule.get("minItems", 0))
        found += [f"{place}: too many"] * (len(value) > rule.get("maxItems", len(value)))
        for index, entry in enumerate(value):
            found += faults(entry, rule.get("items", {}), f"{place}.{index}")
    if isinstance(value, dict):
        found += [f"{place}: too few"] * (len(value) < rule.get("minProperties", 0))
        found += [f"{place}: too many"] * (len(value) > rule.get("maxProperties", len(value)))
        found += [f"{place}.{key}: missing" for key in rule.get("required", []) if key not in value]
        for key, entry in value.items():
            others = rule.get("additionalProperties", True)
            if key in rule.get("properties", {}):
                found += faults(entry, rule["properties"][key], f"{place}.{key}")
            elif isinstance(others, dict):
                found += faults(entry, others, f"{place}.{key}")
            elif not others:
                found.append(f"{place}.{key}: unknown")
    return found


# Current, and agreeing with what the pipeline refuses


def test_the_committed_file_is_current(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If not: `versus schema`."""
    monkeypatch.setattr(schema, "FILE", tmp_path / "params.schema.json")
    monkeypatch.setattr(schema, "PAGE", tmp_path / "docs/params.md")
    monkeypatch.setattr(schema, "DATA", tmp_path / "docs/data.md")
    trees.put(schema.DATA, (ROOT / "docs/data.md").read_bytes())
    schema.main()
    assert schema.DATA.read_text() == (ROOT / "docs/data.md").read_text()
    assert (tmp_path / "params.schema.json").read_text() == (ROOT / "params.schema.json").read_text()


@pytest.mark.parametrize("study", STUDIES, ids=lambda path: path.name)
def test_a_studys_params_yaml_is_valid_where_the_pipeline_says_so(study: Path) -> None:
    try:
        parse(content(study))
    except StageError:
        assert faults(content(study), SCHEMA)
    else:
        assert faults(content(study), SCHEMA) == []


def test_every_family_is_valid(tmp_path: Path) -> None:
    assert faults(content(small_study.write(tmp_path, {})), SCHEMA) == []


BROKEN: list[tuple[str, Any]] = [
    ("dataset.name", "imagenet"),
    ("dataset.image_size", 4),
    ("dataset.image_size", 32.5),
    ("dataset.imbalance", 0.5),
    ("dataset.colour", True),
    ("split.val_fraction", 1.0),
    ("split.val_fraction", 0),
    ("replicates", []),
    ("replicates", [-1]),
    ("replicates", list(range(1001))),
    ("dataset.train_fraction", None),
    ("train.epochs", 10**30),
    ("replicates", [2**32]),
    ("augment.flip", "yes"),
    ("augment.light.rotate", 181),
    ("augment.strong", {"crop": 0.1}),
    ("train.epochs", 0),
    ("train.epochs", "ten"),
    ("train.epoch", 10),
    ("train.lr", 0),
    ("train.clip_norm", 0),
    ("train.device", "tpu"),
    ("models", {}),
    ("models.vit.family", "transformer"),
    ("models.vit.depth", 2),
    ("models.vit.pretrained", 3),
    ("models.hybrid.pool", "median"),
    ("models.hybrid.token_grid", 0),
    ("models.tiny.layers", []),
    ("models.tiny.layers", ["conv eight"]),
    ("models.tiny.in_channels", 2),
    ("models.tiny.train", {"epoch": 1}),
    ("models.tiny.train", {"lr": -1.0}),
    ("models.tiny.augment", {"cutout": -1}),
]
SOUND: list[tuple[str, Any]] = [
    ("dataset.image_size", 8),
    ("replicates", [2**32 - 1]),
    ("augment.light.rotate", 180),
    ("train.clip_norm", None),
    ("train.clip_norm", 2),
    ("models.vit.pretrained", "weights.safetensors"),
    ("models.vit.pretrained", True),
    ("models.vit.args", {"anything": [1, 2]}),
    ("models.hybrid.token_grid", None),
    ("models.tiny.layers", ["conv 8, dw 8 skip", "pool", "transition 4"]),
    ("models.tiny.train", {"lr": 0.5}),
    ("models.tiny.augment", {"light": {"crop": 0, "aspect": 0, "rotate": 0, "jitter": 0, "erase": 0}}),
]


@pytest.mark.parametrize(("key", "value"), BROKEN + SOUND, ids=str)
def test_the_schema_refuses_what_the_pipeline_refuses_and_nothing_else(key: str, value: Any, tmp_path: Path) -> None:
    study = content(small_study.write(tmp_path, {}))
    trees.put_settings(study, {key: value})
    refused = (key, value) in BROKEN
    assert bool(faults(study, SCHEMA)) == refused
    try:
        parse(copy.deepcopy(study))
    except StageError:
        assert refused
    else:
        assert not refused


@pytest.mark.parametrize("section", ["dataset", "split", "augment", "train"])
def test_a_section_without_a_needed_key_is_refused(section: str, tmp_path: Path) -> None:
    study = content(small_study.write(tmp_path, {}))
    del study[section]
    assert faults(study, SCHEMA) == [f".{section}: missing"]


# What it tells


def test_keys_say_what_their_comments_say() -> None:
    definitions = SCHEMA["$defs"]
    assert definitions["Pipeline"]["properties"]["rotate"]["description"] == "degrees"  # settings.py
    for section, key in (("Corruptions", "replicates"), ("Verdict", "margin")):  # beside another line of the field
        assert "none" in definitions[section]["properties"][key]["description"]
    size = definitions["Dataset"]["properties"]["image_size"]
    assert size["description"] == "side in pixels of what the networks see"  # params.yaml
    assert "seed" in SCHEMA["properties"]["replicates"]["description"]  # above the key
    for family in ("TimmModel", "HybridModel", "TinyModel"):  # beside one model, true of all
        assert definitions[family]["properties"]["blurpool"]["description"] == "blur where it samples down"


def test_comments_are_found_beside_and_above_their_keys() -> None:
    text = "# a study\n\na:  # of a\n  b: 'x # y'\n  c: 1   # of c\n# of d\nd:\n- 0  # none\ne: 2\n"
    assert schema.yaml_comments(text) == {("a",): "of a", ("a", "c"): "of c", ("d",): "of d"}


def test_choices_and_defaults_are_offered() -> None:
    train = SCHEMA["$defs"]["Train"]["properties"]
    assert train["optimizer"]["enum"] == list(registry.OPTIMIZERS)
    assert train["loss"]["enum"] == list(registry.LOSSES)
    assert "description" not in train["optimizer"]  # its comment names the same
    assert train["schedule"]["default"] == "cosine"


def test_an_override_offers_all_keys_of_its_section_needs_none_and_changes_none() -> None:
    whole, part = SCHEMA["$defs"]["Train"], SCHEMA["$defs"]["TrainOverrides"]
    assert set(part["properties"]) == set(whole["properties"])
    assert "required" not in part
    assert not [field for field in part["properties"].values() if "default" in field]


# Editors


@pytest.mark.parametrize("study", STUDIES, ids=lambda path: path.name)
def test_an_editor_finds_the_schema_where_a_params_yaml_names_it(study: Path) -> None:
    first = (study / "params.yaml").read_text(encoding="utf-8").splitlines()[0]
    named = re.fullmatch(r"# yaml-language-server: \$schema=(.*)", first)
    assert named
    assert (study / named[1]).resolve() == ROOT / "params.schema.json"
