"""`versus`: what one does with a study and its trained models; `versus COMMAND --help` shows an example.

This module finds the command that is meant and calls it; `pipeline/commands/` has what each of them takes and does.
"""

import argparse
import difflib
import importlib.metadata
import os
import sys
from collections.abc import Callable, Sequence

from pipeline import commands
from pipeline.base import errors, process
from pipeline.base.errors import StageError

DEBUG = "show where in the code an error comes from"


def main(argv: Sequence[str] | None = None) -> None:
    argv = sys.argv[1:] if argv is None else argv
    refuse_unknown(argv)
    given = parser().parse_args(argv)
    if given.debug:
        given.command.run(given)
    else:
        process.run(
            lambda: in_one_line(lambda: given.command.run(given)),
            alone=False,
            interrupted=given.command.INTERRUPTED,
            again=f"versus {given.name}",
        )


def refuse_unknown(argv: Sequence[str]) -> None:
    """End with one line where the command is none; argparse would list all of them."""
    asked = next((argument for argument in argv if not argument.startswith("-")), "")
    if asked and asked not in commands.NAMES:
        close = difflib.get_close_matches(asked, commands.NAMES, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        print(f"versus: no command {errors.shown(asked)!r}; {hint}`versus --help` lists them", file=sys.stderr)
        sys.exit(2)


def version() -> str:
    """Of the package, and of the code where it lies in a git checkout."""
    from pipeline.base import git

    commit, *changed = git.commit().partition("-")
    return " ".join(filter(None, ["versus", importlib.metadata.version("versus"), f"{commit[:12]}{''.join(changed)}"]))


def in_one_line(call: Callable[[], None]) -> None:
    """Call; an error that nobody foresaw becomes a StageError, and a reader who has gone away (`| head`) no error."""
    try:
        call()
        if sys.stdout is not None:  # a shell's `>&-`
            sys.stdout.flush()
    except StageError:
        raise
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes once more at its end
        sys.exit(141)  # as a shell reports SIGPIPE
    except Exception as error:
        if errors.disk_fault(error):
            raise
        reason = " ".join(str(error).split())[:300]
        raise StageError(f"unexpected {type(error).__name__}: {reason}; --debug shows where") from error


class Version(argparse.Action):
    """Prints the version when it is asked for, and not before: git takes its time."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print(version())
        parser.exit()


def parser() -> argparse.ArgumentParser:
    """`versus` with all its commands; what it parses names the `command`, and itself as `versus`."""
    top = argparse.ArgumentParser(
        prog="versus",
        description="Use, list and check what a study of Versus trained; run it in the study's folder.",
        epilog="example:\n  versus predict photo.jpg",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action=Version, nargs=0, help="show the version, and end")
    top.add_argument("--debug", action="store_true", help=DEBUG)
    added = top.add_subparsers(metavar="COMMAND", required=True)
    for name in commands.NAMES:
        command = commands.load(name)
        one = added.add_parser(
            name,
            help=command.SUMMARY[0].lower() + command.SUMMARY[1:],
            description=f"{command.SUMMARY}.",
            epilog=f"example:\n  {command.EXAMPLE}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.arguments(one)
        one.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=DEBUG)
        one.set_defaults(command=command, name=name, versus=top)
    return top


if __name__ == "__main__":
    main()
