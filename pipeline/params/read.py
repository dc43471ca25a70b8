"""params.yaml read from disk: bounded, without duplicate keys, as settings or as flat names."""

import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML, YAMLError

from pipeline.base.errors import StageError
from pipeline.params.faults import parse
from pipeline.params.messages import quoted
from pipeline.params.study import Params

ONNX = ("onnx", "onnxruntime", "onnxscript")  # packages
UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")  # line feeds and tabs are in order
LARGEST, MOST_VALUES = 1_000_000, 1_000_000  # bytes of a params.yaml, values in it: more than the bytes can spell out


def require_onnx(what: str) -> None:
    """Raise StageError, with the command that installs them, if packages that write and run ONNX files are missing."""
    if missing := [name for name in ONNX if importlib.util.find_spec(name) is None]:
        raise StageError(f"{what} needs {', '.join(missing)}: python -m pip install -c constraints.txt -e '.[export]'")


def load_params(path: Path = Path("params.yaml")) -> Params:
    """Read and check params.yaml; raises StageError with one line per fault."""
    try:
        if not path.is_dir() and not path.is_file() and path.exists():
            raise StageError(f"{path}: neither a file nor a link to one; put the study's settings there")
        if path.stat().st_size > LARGEST:
            raise StageError(f"{path}: larger than {LARGEST:,} bytes, which no params.yaml is")
        text = path.read_text(encoding="utf-8")
        _refuse_long_numbers(text, path)
        content = YAML(typ="safe", pure=True).load(text)
    except FileNotFoundError:
        raise StageError(f"{path}: not found; run from a study's folder, where dvc.yaml and params.yaml lie") from None
    except OSError as error:
        raise StageError(f"{path}: cannot be read: {error.strerror}") from None
    except StageError:
        raise
    except (YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split()).replace('in "<unicode string>", ', "at ")
        raise StageError(f"{path}: not readable as YAML: {reason}") from None
    except RecursionError:
        raise StageError(f"{path}: nested too deeply; no key of it is") from None
    except Exception as error:  # a date that is none, a tag on what is not of its kind: whatever the parser trips over
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise StageError(f"{path}: not readable as YAML: {reason}") from None
    _refuse_bomb(content, path)
    return parse(content)


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        flat.update(flatten(value, f"{name}.") if isinstance(value, Mapping) else {name: value})
    return flat


def _refuse_bomb(content: object, path: Path) -> None:
    """Raise StageError for aliases that name each other into more values than memory has, or themselves, and for text
    that would steer a terminal or that no file can hold."""
    todo, seen = [content], 0
    while todo:
        value = todo.pop()
        todo += [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list | set) else ()
        if isinstance(value, str) and UNPRINTABLE.search(value):
            raise StageError(f"{path}: got {quoted(value)}, with a character that cannot be printed; leave it out")
        seen += 1
        if seen > MOST_VALUES:
            raise StageError(f"{path}: its aliases (&, *) stand for more than {MOST_VALUES:,} values; write them out")


def _refuse_long_numbers(text: str, path: Path) -> None:
    """Raise StageError for a number that Python itself refuses to read, with the line that it stands in."""
    if found := re.search(r"\d{1000,}|0x[0-9a-fA-F]{1000,}", text):
        line = text.count("\n", 0, found.start()) + 1
        raise StageError(f"{path}: line {line} has a number of {len(found[0]):,} digits; no setting has as many")
