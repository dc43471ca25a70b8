"""The commands of `versus`: a module each, which is imported for its help and does its work in `run`.

`versus --help` imports all of them, so that a module here imports nothing heavy at its top: no torch, pydantic, dvc.
"""

import argparse
import importlib
from typing import Protocol, cast

NAMES = (  # in the order in which `versus --help` lists them
    "new",
    "predict",
    "page",
    "export",
    "models",
    "mistakes",
    "subgroups",
    "register",
    "looks",
    "prune",
    "verify",
    "ui",
    "experiments",
    "ablation",
    "estimate",
    "probe",
    "launch",
    "pack",
    "unpack",
    "cross",
    "summary",
    "paper",
    "check",
    "schema",
    "completion",
)


class Command(Protocol):
    """What the module of a command has."""

    SUMMARY: str  # what it does, a sentence without its full stop
    EXAMPLE: str  # a call of it
    INTERRUPTED: str  # what is true after Ctrl-C and SIGTERM

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add what the command takes."""
        ...

    def run(self, given: argparse.Namespace) -> None:
        """Do the command's work; an exit status other than 0 is raised, by `sys.exit` or as an error."""
        ...


def load(name: str) -> Command:
    return cast(Command, importlib.import_module(f"{__name__}.{name}"))
