"""A value of params.yaml with the reason why it is this one, and how a file of such values is written."""

import copy
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Union

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

COLUMN = 26  # that reasons begin in, where keys and values leave it free


@dataclass(frozen=True)
class Choice:
    value: Any
    why: str = ""  # one line, which stands beside the value


Section = Mapping[str, Union[Choice, "Section"]]


def values(section: Section) -> dict[str, Any]:
    """The values alone, as params.yaml is read."""
    return {key: each.value if isinstance(each, Choice) else values(each) for key, each in section.items()}


def taken(content: Mapping[str, Any]) -> Section:
    """Values that somebody else has chosen, without reasons."""
    return {key: taken(each) if isinstance(each, dict) and each else Choice(each) for key, each in content.items()}


def text(section: Section, heading: str) -> str:
    """A params.yaml with its reasons, as DVC itself lays it out: an experiment changes no more than its line."""
    file = io.StringIO()
    YAML().dump(_laid_out(section), file)
    body = file.getvalue().splitlines()
    spaced = [f"\n{line}" if number and line[0].isalpha() else line for number, line in enumerate(body)]
    return "\n".join([*(f"# {line}" for line in heading.splitlines()), "", *spaced, ""])


def _laid_out(section: Section, depth: int = 0) -> CommentedMap:
    laid = CommentedMap()
    for key, each in section.items():
        if not isinstance(each, Choice):
            laid[key] = _laid_out(each, depth + 1)
            continue
        laid[key] = _in_braces(each.value)
        if each.why:
            column = max(COLUMN, 2 * depth + _width(key, laid[key]) + 2)
            laid.yaml_add_eol_comment(" ".join(each.why.split()), key, column)
    return laid


def _in_braces(value: Any) -> Any:
    """A copy, of a mapping as it stands on one line; what is in two places is written out in both."""
    found = copy.deepcopy(value)
    if isinstance(value, dict):
        found = CommentedMap(found)
        found.fa.set_flow_style()
    return found


def _width(key: str, value: Any) -> int:
    """Characters of the line on which a key begins."""
    file = io.StringIO()
    YAML().dump(CommentedMap({key: value}), file)
    return len(file.getvalue().partition("\n")[0])
