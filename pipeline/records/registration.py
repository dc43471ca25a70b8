"""A study's registration: what `versus register` fixed before the test images were looked at, in registration.json.

It counts from the commit that has it: a look at test images (looks.py) says which registration was committed by then.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.base.files import write_json
from pipeline.params.read import flatten
from pipeline.params.settings import OF_THE_MACHINE, PLACES, is_default
from pipeline.params.study import Params
from pipeline.records.diary import read_record
from pipeline.records.looks import short

FILE = Path("registration.json")
METRIC = "macro_f1"  # which verdicts are on
FIXED = ("dataset", "split", "replicates", "augment", "train", "models", "tune", "verdict")


@dataclass(frozen=True)
class Registration:
    """What was fixed: the metric of the verdicts, and by dotted key every setting that decides a result."""

    metric: str
    settings: dict[str, Any]
    digest: str = ""  # of its file; empty of what is not written yet

    @classmethod
    def of(cls, settings: Params) -> "Registration":
        """What params.yaml says now."""
        content = settings.model_dump(mode="json", include=set(FIXED))
        for key in PLACES:
            del content["dataset"][key]
        for key in OF_THE_MACHINE:
            del content["train"][key]
        return cls(METRIC, {key: value for key, value in flatten(content).items() if value != {}})

    @classmethod
    def read(cls) -> "Registration | None":
        """What the study registered; None where it has no registration."""
        if not FILE.exists():
            return None
        return replace(read_record(cls, FILE, f"`git checkout -- {FILE}` brings it back"), digest=present())

    def write(self) -> None:
        write_json(FILE, {"metric": self.metric, "settings": self.settings})

    def departures(self, settings: Params) -> Mapping[str, tuple[Any, Any]]:
        """By dotted key what was registered and what holds now, where they differ; None for what is not there.

        A setting that the version of the registration did not have was as it is by default.
        """
        now = Registration.of(settings).settings
        then = {key: value for key, value in now.items() if is_default(key, value)} | self.settings
        keys = [key for key in {**then, **now} if then.get(key) != now.get(key)]
        return {key: (then.get(key), now.get(key)) for key in keys}


def digest(text: str) -> str:
    """What tells a registration from another, by its file's text; empty where there is none."""
    return short(hashlib.sha256(text.encode()).hexdigest()) if text else ""


def present() -> str:
    """The digest of the study's registration as it lies there, committed or not."""
    return digest(FILE.read_text(encoding="utf-8")) if FILE.exists() else ""
