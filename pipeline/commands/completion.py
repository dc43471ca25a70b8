"""`versus completion`: what completes commands and options in a shell; paths where a path is taken."""

import argparse
from pathlib import Path

SUMMARY = "Print what completes `versus` in a shell"
EXAMPLE = 'eval "$(versus completion bash)"'
INTERRUPTED = "nothing was changed"
SHELLS = ("bash", "zsh", "tcsh")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=SHELLS)


def run(given: argparse.Namespace) -> None:
    import shtab

    for commands in (action.choices for action in given.versus._actions if isinstance(action.choices, dict)):
        for action in (action for command in commands.values() for action in command._actions):
            if action.type is Path or action.metavar == "IMAGE":
                action.complete = shtab.FILE
    print(shtab.complete(given.versus, given.shell))
