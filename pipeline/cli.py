"""`versus`: what one does with a study and its trained models; `versus COMMAND --help` shows an example.

A command's module is imported when the command runs: torch takes seconds to import, and help is wanted at once.
"""

import argparse
import contextlib
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline.base import errors, process
from pipeline.base.errors import StageError
from pipeline.launch.executor import EXECUTORS

SHELLS = ("bash", "zsh", "tcsh")


def main(argv: Sequence[str] | None = None) -> None:
    arguments = parser().parse_args(argv)
    if arguments.debug:
        arguments.call(arguments)
    else:
        process.run(
            lambda: in_one_line(lambda: arguments.call(arguments)),
            alone=False,
            interrupted=arguments.interrupted,
            again=f"versus {arguments.command}",
        )


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


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="versus",
        description="Use, list and check what a study of Versus trained; run it in the study's folder.",
        epilog="example:\n  versus predict photo.jpg",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    debug = "show where in the code an error comes from"
    top.add_argument("--debug", action="store_true", help=debug)
    commands = top.add_subparsers(metavar="COMMAND", required=True)

    def command(
        name: str,
        call: Callable[[argparse.Namespace], None],
        text: str,
        example: str,
        interrupted: str = "nothing was changed",  # what is true after Ctrl-C and SIGTERM
    ) -> argparse.ArgumentParser:
        added = commands.add_parser(
            name,
            help=text[0].lower() + text[1:],
            description=text + ".",
            epilog=f"example:\n  {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        added.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=debug)
        added.set_defaults(call=call, command=name, interrupted=interrupted)
        return added

    added = command(
        "predict",
        predict,
        "Class and probability for images",
        "versus predict photo.jpg photos/ --model cnn",
        "the images above have their answers, the others none",
    )
    added.add_argument("images", nargs="+", metavar="IMAGE", help="files, folders, or globs in quotes")
    added.add_argument(
        "--model", default="", help="cnn: its best replicate; cnn-2: that one; else the study's best, by validation"
    )
    added.add_argument("--top", type=positive, default=3, metavar="N", help="classes to name for each image (3)")
    added.add_argument("--json", action="store_true", help="print one JSON document")
    added.add_argument(
        "--explain", type=Path, metavar="FOLDER", help="write there what each answer rests on, over its image"
    )

    added = command(
        "export",
        export,
        "Write a trained model as ONNX and verify it",
        "versus export cnn-2 --onnx cnn.onnx",
        "a file that is not verified is not kept, an older one stays",
    )
    added.add_argument("model", help="cnn-2: that replicate; cnn: its best one, by validation")
    added.add_argument("--onnx", type=Path, required=True, metavar="FILE", help="where to write it")

    added = command("models", models, "List the study's trained models with their scores", "versus models --json")
    added.add_argument("--json", action="store_true", help="print one JSON document")

    added = command(
        "prune",
        prune,
        "List what killed and failed stages and removed models left, and remove it with --yes",
        "versus prune --days 1 --yes",
        "what was removed stays removed, the same command goes on with the rest",
    )
    added.add_argument("--days", type=amount, default=7, metavar="N", help="only what is older than N days (7)")
    added.add_argument("--yes", action="store_true", help="remove it; without, it is listed only")

    added = command(
        "verify",
        verify,
        "Rerun a study as it is committed, or compare two runs of it, and say what differs",
        "versus verify . ../rerun --tolerance 0.01",
        "nothing is said of the results, which stay as they were; the same command starts anew",
    )
    added.add_argument(
        "committed", type=Path, nargs="?", default=Path(), metavar="COMMITTED", help="a study's folder (this one)"
    )
    added.add_argument(
        "rerun",
        type=Path,
        nargs="?",
        metavar="RERUN",
        help="the same study's folder in another checkout; without, COMMITTED is run again in a fresh clone",
    )
    added.add_argument(
        "--tolerance", type=amount, default=0.0, metavar="X", help="by how much a mean score may differ (0: not a bit)"
    )

    command(
        "ablation",
        ablation,
        "Compare the study's experiments with the last commit, setting by setting",
        "versus ablation",
        "reports/ablation is as it was",
    )

    added = command(
        "estimate",
        estimate,
        "Estimate how long the study's trainings will take",
        "versus estimate",
        "nothing was trained or written, `versus estimate` measures anew",
    )
    added.add_argument("--json", action="store_true", help="print one JSON document")
    added.add_argument("--compile", action="store_true", help="say from how many epochs on train.compile pays")

    added = command(
        "launch",
        launch,
        "Train what DVC would train, several models at a time, here or on a Slurm cluster",
        "versus launch --on slurm --slurm partition=gpu --slurm gres=gpu:1 -S augment.strength=0.5,1.0",
        "what was finished stays, `versus launch` goes on from there",
    )
    added.add_argument("--on", choices=EXECUTORS, default="local", help="where; local is this machine")
    added.add_argument(
        "--workers",
        type=positive,
        metavar="N",
        help="trainings at a time; one for each GPU, else cores/2, two at least",
    )
    added.add_argument(
        "-S", action="append", default=[], metavar="KEY=V,V", help="a grid, as dvc exp run --queue takes it"
    )
    added.add_argument("--slurm", action="append", default=[], metavar="OPTION=V", help="an option of sbatch: mem=16G")
    added.add_argument("--retries", type=natural, metavar="N", help="of a training that died; 2")
    added.add_argument(
        "--through-remote", action="store_true", help="share by the default DVC remote, not by the cache"
    )
    added.add_argument(
        "--no-finish", action="store_true", help="leave the final dvc repro, which makes the report, to you"
    )
    added.add_argument("--status", action="store_true", help="show what is queued, running, done and failed, with logs")
    added.add_argument("--stop", action="store_true", help="end the launch that runs in another terminal")

    command("check", check, "Refuse a params.yaml that has a fault, and name it", "versus check")
    command("schema", schema, "Write what is made from the code: schema and tables of the docs", "versus schema")

    added = command(
        "completion", completion, "Print what completes `versus` in a shell", 'eval "$(versus completion bash)"'
    )
    added.add_argument("shell", choices=SHELLS)
    return top


def positive(text: str) -> int:
    """A whole number above zero."""
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def natural(text: str) -> int:
    """A whole number, zero or more."""
    number = int(text)
    if number < 0:
        raise ValueError
    return number


def amount(text: str) -> float:
    """A number, zero or more."""
    number = float(text)
    if not 0 <= number < math.inf:
        raise ValueError
    return number


def launch(arguments: argparse.Namespace) -> None:
    from pipeline.launch import launcher

    if arguments.status:
        launcher.status()
    elif arguments.stop:
        launcher.stop()
    else:
        wrong = [option for option in arguments.slurm if "=" not in option]
        if wrong:
            raise StageError(f"launch: --slurm {wrong[0]}: give an option of sbatch as OPTION=VALUE, such as mem=16G")
        launcher.launch(
            arguments.on,
            overrides=arguments.S,
            workers=arguments.workers,
            retries=arguments.retries,
            resources=dict(option.split("=", 1) for option in arguments.slurm),
            through_remote=arguments.through_remote,
            finish=not arguments.no_finish,
        )


def predict(arguments: argparse.Namespace) -> None:
    from pipeline.commands.predict import predict

    if not predict(arguments.images, arguments.model, arguments.top, arguments.json, arguments.explain):
        sys.exit(1)


def export(arguments: argparse.Namespace) -> None:
    from pipeline.commands.export import export

    export(arguments.model, arguments.onnx)


def models(arguments: argparse.Namespace) -> None:
    from pipeline.commands.models import show

    show(arguments.json)


def prune(arguments: argparse.Namespace) -> None:
    from pipeline.commands.prune import prune

    prune(arguments.days, arguments.yes)


def verify(arguments: argparse.Namespace) -> None:
    from pipeline.commands.verify import verify
    from pipeline.launch.rerun import rerun

    given = contextlib.nullcontext((arguments.committed, arguments.rerun))
    with given if arguments.rerun else rerun(arguments.committed) as (committed, again):
        held = verify(committed, again, arguments.tolerance)
    if not held:
        sys.exit(1)


def ablation(_: argparse.Namespace) -> None:
    from pipeline.commands.ablation import main as ablation_main

    ablation_main()


def estimate(arguments: argparse.Namespace) -> None:
    from pipeline.commands.estimate import estimate

    estimate(arguments.json, arguments.compile)


def check(_: argparse.Namespace) -> None:
    from pipeline.stages.check import main as check_main

    check_main()


def schema(_: argparse.Namespace) -> None:
    from pipeline.params.schema import main as schema_main

    schema_main()


def completion(arguments: argparse.Namespace) -> None:
    import shtab

    top = parser()
    for commands in (action.choices for action in top._actions if isinstance(action.choices, dict)):
        for action in commands["predict"]._actions + commands["export"]._actions:
            if action.dest in ("images", "onnx"):
                action.complete = shtab.FILE
    print(shtab.complete(top, arguments.shell))


if __name__ == "__main__":
    main()
