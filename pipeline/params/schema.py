"""What is made from the code, for `versus schema` to write and tests to hold to it.

params.schema.json is what params.yaml may hold, for editors that complete and check it; what a key means is the comment
beside its field in settings.py, else the comment beside it in the default study's params.yaml. docs/params.md is the
same for people. docs/data.md has its tables from the data sets.
"""

import ast
import copy
import inspect
import io
import json
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from pipeline.base.files import write_json, written_whole
from pipeline.base.process import run
from pipeline.params import registry, settings
from pipeline.params.study import Params

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "params.schema.json"
PAGE = ROOT / "docs/params.md"
DATA = ROOT / "docs/data.md"
SECTIONS = {"dataset": settings.Dataset, "split": settings.Split, "augment": settings.Augment, "train": settings.Train}
OVERRIDES = {"augment": "Augment", "train": "Train"}  # a model's keys that hold any of a section's


def main() -> None:
    with written_whole(FILE) as partial:
        write_json(partial, json_schema())
    with written_whole(PAGE) as partial:
        partial.write_text(reference(json_schema()), encoding="utf-8")
    tables = with_tables(DATA.read_text(encoding="utf-8"))
    with written_whole(DATA) as partial:
        partial.write_text(tables, encoding="utf-8")
    print(f"schema: {FILE.name}, docs/{PAGE.name}, docs/{DATA.name}, from the root of the repository")


class _Untitled(GenerateJsonSchema):
    """Titles would only repeat the keys."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002
        return False


def json_schema() -> dict[str, Any]:
    """The JSON schema of a params.yaml."""
    content = Params.model_json_schema(schema_generator=_Untitled)
    definitions = content["$defs"]
    texts = descriptions()
    for owner, definition in [("Params", content), *definitions.items()]:
        definition.pop("title")
        for key, field in definition["properties"].items():
            if (text := texts.get((owner, key))) and "description" not in field and not only_choices(text, field):
                field["description"] = text
    for key, section in OVERRIDES.items():
        definitions[f"{section}Overrides"] = partly(definitions[section])
        for family in settings.FAMILIES.values():
            field = definitions[family.__name__]["properties"][key]
            field.pop("additionalProperties")
            field.pop("type")
            field["$ref"] = f"#/$defs/{section}Overrides"
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A study of Versus: params.yaml",
        **content,
    }


def only_choices(text: str, field: dict[str, Any]) -> bool:
    """Whether a comment tells no more than the names that may be chosen, which are there anyway."""
    return set(text.split(", ")) <= set(field.get("enum", []))


def reference(content: dict[str, Any]) -> str:
    """The schema as a page of tables, for people."""
    definitions = content["$defs"]
    parts = [
        "# params.yaml, key by key",
        "Written by `versus schema` from the typed parameters. A key without a default must be there: DVC runs no stage"
        " that depends on a key which params.yaml lacks. A key with a default may be left out; an experiment sets one"
        " that is left out with two plus signs, `dvc exp run -S ++train.compile=default`.",
        "## The file",
        _keys(content),
    ]
    for name, definition in definitions.items():
        if not name.endswith("Overrides"):
            parts += [f"## {_heading(name)}", _keys(definition)]
    return "\n\n".join(parts) + "\n"


def _heading(name: str) -> str:
    """TimmModel -> `models`, family timm"""
    families = {model.__name__: family for family, model in settings.FAMILIES.items()}
    if name in families:
        return f"`models.<name>`, family `{families[name]}`"
    places = {
        "Pipeline": "augment.light`, `augment.strong",
        "PublishedRow": "published.rows",
        "Weights": "models.<name>.pretrained",
    }
    return f"`{places.get(name, name.lower())}`"


def _keys(definition: dict[str, Any]) -> str:
    rows = ["| key | takes | default | meaning |", "|---|---|---|---|"]
    needed = definition.get("required", [])
    for key, field in definition["properties"].items():
        default = "" if key in needed or "default" not in field else f"`{json.dumps(field['default'])}`"
        meaning = field.get("description", "").replace("|", "\\|")
        rows.append(f"| `{key}` | {_takes(field)} | {default} | {meaning} |")
    return "\n".join(rows)


def _takes(field: dict[str, Any]) -> str:
    """What a key takes, in words: its choices, or its type with its bounds."""
    if "enum" in field:
        return ", ".join(f"`{choice}`" for choice in field["enum"])
    if "const" in field:
        return f"`{field['const']}`"
    if options := field.get("anyOf") or field.get("oneOf"):
        return " or ".join(dict.fromkeys(_takes(option) for option in options))
    if "$ref" in field:
        name = field["$ref"].rsplit("/", 1)[-1]
        return f"any keys of `{name.removesuffix('Overrides').lower()}`" if name.endswith("Overrides") else "section"
    words = {
        "integer": "whole number",
        "string": "text",
        "boolean": "true, false",
        "array": "list",
        "object": "mapping",
    }
    bounds = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
    text = words.get(field.get("type", ""), field.get("type", "any"))
    return ", ".join([text, *(f"{word} {field[key]}" for key, word in bounds.items() if key in field)])


def with_tables(page: str) -> str:
    """docs/data.md with its tables of the data sets, each between two comments of its name."""
    images = ["| `dataset.name` | images | where from |", "|---|---|---|"]
    licences = ["| data set | licence | pictures in reports |", "|---|---|---|"]
    for name in registry.DATASETS:
        about = registry.load("datasets", name).ABOUT
        shown = "yes" if about.shareable else "no"
        images.append(f"| `{name}` | {about.images} | {about.origin} |")
        licences.append(f"| {about.title or 'your own'} | {about.licence or 'yours to say'} | {shown} |")
    for key, rows in (("images", images), ("licences", licences)):
        before, _, rest = page.partition(f"<!-- {key} -->\n")
        after = rest.partition(f"<!-- /{key} -->\n")[2]
        page = "\n".join([f"{before}<!-- {key} -->", *rows, f"<!-- /{key} -->\n{after}"])
    return page


def partly(definition: dict[str, Any]) -> dict[str, Any]:
    """The same keys, none of them needed and none with a default."""
    part = copy.deepcopy({key: value for key, value in definition.items() if key != "required"})
    for field in part["properties"].values():
        field.pop("default", None)
    return part


def descriptions() -> dict[tuple[str, str], str]:
    """(class of params.py, field) -> what it means."""
    texts: dict[tuple[str, str], str] = {}
    for path, text in yaml_comments((ROOT / "params.yaml").read_text(encoding="utf-8")).items():
        if path[0] in SECTIONS and len(path) == 2:
            texts.setdefault((SECTIONS[path[0]].__name__, path[1]), text)
        elif path[0] == "models" and len(path) == 3:
            for family in settings.FAMILIES.values():  # a comment stands once, beside the first model that has the key
                texts.setdefault((family.__name__, path[2]), text)
        elif len(path) == 1:
            texts.setdefault(("Params", path[0]), text)
    for kind in vars(settings).values():
        if inspect.isclass(kind) and issubclass(kind, BaseModel):
            texts.update({(kind.__name__, field): text for field, text in field_comments(inspect.getsource(kind))})
    return texts


def field_comments(source: str) -> Iterator[tuple[str, str]]:
    """Each commented field of the class whose source this is, with the comments on all of its lines."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = {token.start[0]: token.string.removeprefix("# ") for token in tokens if token.type == tokenize.COMMENT}
    (kind,) = ast.parse(source).body
    for field in kind.body if isinstance(kind, ast.ClassDef) else ():
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            lines = range(field.lineno, (field.end_lineno or field.lineno) + 1)
            if said := " ".join(comments[line] for line in lines if line in comments):
                yield field.target.id, said


def yaml_comments(content: str) -> dict[tuple[str, ...], str]:
    """Path of a key -> the comment beside it, or alone on the line above; keys indented by two, as in our files."""
    found: dict[tuple[str, ...], str] = {}
    path: list[str] = []
    above = ""
    for line in content.splitlines():
        if match := re.fullmatch(r"( *)(\w+):(?:'[^']*'|[^'#])*(?:# (.*))?", line):
            indent, key, beside = match.groups()
            path = [*path[: len(indent) // 2], key]
            if text := beside or above:
                found[tuple(path)] = text
        above = line.lstrip()[2:] if line.lstrip().startswith("# ") else ""
    return found


if __name__ == "__main__":
    run(main, alone=False)
