"""Faults of params.yaml in words: which key, what was found, what is wanted."""

import datetime
import difflib
import json
import re
from collections.abc import Mapping
from typing import Any, TypeVar, get_args, get_origin

import pydantic
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from pipeline.base.errors import StageError
from pipeline.params.settings import FAMILIES, Weights


def quoted(value: object) -> str:
    """A value as Python writes it, in a line's length."""
    if isinstance(value, int) and value.bit_length() > 200:
        return f"a whole number of about {value.bit_length() * 3 // 10} digits"
    if isinstance(value, datetime.date):
        return f"the date {value}"
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


Kind = TypeVar("Kind", bound=BaseModel)


def validated(kind: type[Kind], content: object, prefix: str) -> Kind:
    """The content as a model; raises StageError with a line for each fault, its key below `prefix`."""
    try:
        return kind.model_validate(content)
    except pydantic.ValidationError as error:
        lines: dict[str, str] = {}  # place -> what is wrong there
        for fault in error.errors():
            if (
                "pretrained" in fault["loc"]
                and fault["loc"][-1] in ("bool", "str")
                and isinstance(fault["input"], Mapping)
            ):
                continue  # it is a Weights: what is wrong with that is said
            where, line = _explain(kind, fault, prefix)
            if where in lines and " wanted " in line:  # neither this nor that member of a union
                lines[where] += " or " + line.partition(" wanted ")[2]
            elif fault["type"] != "too_short" or not any(place.startswith(f"{where}.") for place in lines):
                lines.setdefault(where, line)
        raise StageError("\n".join(f"params.yaml: {line}" for line in lines.values())) from None


WANTED = {
    "bool_type": "true or false",
    "dict_type": "keys and values",
    "invalid_key": "a key that is text",
    "float_type": "a number",
    "int_type": "a whole number",
    "model_type": "keys and values",
    "string_pattern_mismatch": "layers such as conv 8, dw 12, conv 12 skip, transition 8, pool",
    "string_type": "text",
    "too_short": "one or more",
    "tuple_type": "a list",
}


def _explain(kind: type[BaseModel], fault: Mapping[str, Any], prefix: str) -> tuple[str, str]:
    """The place of a fault, and one line: where, what was found, what is wanted."""
    path, fields, field = _walk(kind, fault["loc"])
    where = ".".join([prefix] * bool(prefix) + path)
    got, context = fault["input"], fault.get("ctx", {})
    if fault["type"] == "extra_forbidden":
        close = difflib.get_close_matches(path[-1], fields, n=1)
        hint = f"did you mean '{close[0]}'? " if close else ""
        return where, f"{where}: unknown key; {hint}choose from {', '.join(fields)}"
    if fault["type"] == "missing":
        plain = f", such as {path[-1]}: {json.dumps(field.examples[0])}" if field and field.examples else ""
        return where, f"{where}: missing; it is needed{plain}"
    if fault["type"] in ("union_tag_invalid", "union_tag_not_found"):
        found = got.get("family") if isinstance(got, Mapping) else got
        return where, f"{where}.family: got {quoted(found)}; choose from {', '.join(FAMILIES)}"
    if fault["type"] == "literal_error":
        choices = re.findall("'([^']*)'", context["expected"])
        return where, f"{where}: got {quoted(got)}; choose from {', '.join(choices)}"
    if path[-1:] == ["sha256"]:
        return where, f"{where}: got {quoted(got)}; wanted 64 hexadecimal digits, as sha256sum prints them"
    if fault["type"] == "too_long":
        return where, f"{where}: got {len(got):,} of them; wanted {context['max_length']:,} or fewer"
    wanted = WANTED.get(fault["type"]) or fault["msg"].removeprefix("Input should be ").removeprefix("a valid ")
    return where, f"{where or 'top level'}: got {quoted(got)}; wanted {wanted}"


def _walk(kind: Any, location: tuple[str | int, ...]) -> tuple[list[str], list[str], FieldInfo | None]:
    """The keys of a fault as a user wrote them (tags of unions left out), the choices at its last key, its field."""
    path: list[str] = []
    fields: list[str] = []
    field: FieldInfo | None = None
    for key in location:
        if kind is not None and get_origin(kind) is None and isinstance(kind, type) and issubclass(kind, BaseModel):
            fields = list(kind.model_fields)
            path.append(str(key))
            field = kind.model_fields.get(str(key))
            kind = field.annotation if field else None
        elif get_origin(kind) is dict:
            path.append(str(key))
            kind = get_args(kind)[1]
            fields = []
        elif key in FAMILIES and kind is not None:
            kind = FAMILIES[str(key)]
        elif key == "Weights":
            kind = Weights
        elif isinstance(key, int):
            path.append(str(key))
            kind = next(iter(get_args(kind)), None)
        # other keys name a member of a union such as `bool | str`: nothing that a user wrote
    return path, fields, field
