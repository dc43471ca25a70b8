"""Settings without those that are as they are by default: what older versions, which did not know these, have too."""

import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel


def without_defaults(kind: type[BaseModel], values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a section, as JSON has them, that are not as they are by default; of sections within it alike."""
    return {
        key: without_defaults(within, value)
        if (within := _section(kind, key)) and isinstance(value, Mapping)
        else value
        for key, value in values.items()
        if not is_default_of(kind, key, value)
    }


def is_default_of(kind: type[BaseModel], key: str, value: object) -> bool:
    """Whether a setting of a section, as JSON has it, is as it is where it is not named."""
    field = kind.model_fields.get(key)
    if field is None or field.is_required():
        return False
    return bool(value == json.loads(json.dumps(field.get_default(call_default_factory=True), default=str)))


def _section(kind: type[BaseModel], key: str) -> type[BaseModel] | None:
    """What is within a section under a key, where that is a section itself."""
    found = kind.model_fields[key].annotation if key in kind.model_fields else None
    return found if isinstance(found, type) and issubclass(found, BaseModel) else None
