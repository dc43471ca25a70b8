"""A stage as a process: alone under its lock, and one clear line for a fault or an end that nobody chose."""

import atexit
import contextlib
import io
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import NoReturn

from pipeline.base.errors import PASSING, PassingError, StageError, Terminated, disk_fault, legible
from pipeline.base.files import locked


def run(
    main: Callable[[], None],
    alone: bool = True,
    interrupted: str = "nothing was left half-written, `dvc repro` goes on from what was finished",
    again: str = "dvc repro",
) -> None:
    """Call a stage's `main`; a fault that the user can mend becomes one line on stderr and exit status 1.

    `alone`: where DVC was killed and a stage goes on without it, the same stage started anew waits for it, so that
    nobody's outputs change behind DVC's back. Ctrl-C and SIGTERM end with one line too, which says `interrupted`; where
    the disk is the fault, the line ends with the command to give `again`. With VERSUS_DEBUG=1 a fault shows where in
    the code it comes from. Where `main` is the program's own, the process ends with it.
    """
    if main.__module__ != "__main__":
        _run(main, alone, interrupted, again)
        return
    try:
        _run(main, alone, interrupted, again)
        status = 0
    except SystemExit as end:
        if end.code is not None and not isinstance(end.code, int):
            print(end.code, file=sys.stderr)
            end.code = 1
        status = end.code or 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    _leave(status)


def _run(main: Callable[[], None], alone: bool, interrupted: str, again: str) -> None:
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _terminate)
    if isinstance(sys.stdout, io.TextIOWrapper):  # a name may have letters that the locale lacks: as stderr does it
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with locked(_name(), "the same stage runs in another process; waiting") if alone else contextlib.nullcontext():
            main()
    except StageError as error:
        if os.environ.get("VERSUS_DEBUG"):
            raise
        print(f"versus: {legible(str(error))}", file=sys.stderr)
        sys.exit(PASSING if isinstance(error, PassingError) else 1)
    except KeyboardInterrupt as interrupt:
        word, status = ("terminated", 143) if isinstance(interrupt, Terminated) else ("interrupted", 130)
        print(f"versus: {word}; {interrupted}", file=sys.stderr)
        sys.exit(status)
    except Exception as error:
        if not (said := disk_fault(error)):
            raise
        print(f"versus: {said} and run `{again}` again", file=sys.stderr)
        sys.exit(1)


def _leave(status: int) -> NoReturn:
    """End as Python does, but without taking apart what PyTorch imported: that takes one to three seconds of a core."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(status)


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    raise Terminated


def _name() -> str:
    """A stage's command line and folder, as a lock's name."""
    import hashlib  # late, as `versus --help` needs none of what it imports

    text = json.dumps([str(Path.cwd()), Path(sys.argv[0]).stem, *sys.argv[1:]])
    return f"stage-{hashlib.sha256(text.encode()).hexdigest()[:32]}"
