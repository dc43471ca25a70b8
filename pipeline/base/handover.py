"""A stage's process hands its work over to a copy of one that has the libraries imported already.

A stage imports PyTorch, timm and MLflow for two to six seconds before it begins. `versus launch` keeps a process that
has done so (pipeline/launch/warm.py), whose socket VERSUS_WARM names: it forks, and the copy runs the stage in the
folder of the first one, with its arguments, variables, streams and cores. The first one waits, hands on signals, and
ends as the copy does; where it is killed, so is the copy. Where something of it could not be the same, a stage runs as
it always does.
"""

import contextlib
import json
import os
import resource
import signal
import socket
import sys
from typing import Any, NoReturn, TextIO

WARM = "VERSUS_WARM"  # the variable with the path of the socket
OWNED = {"SLURM_JOB_ID", "TORCHELASTIC_RUN_ID"}
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LIMITS = tuple(sorted(getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")))


def likeness() -> dict[str, Any]:
    """What a copy cannot change any more: a process may take over from another only where both have the same."""
    return {
        "python": [sys.executable, sys.prefix, *sys.version_info[:3]],
        "warnings": list(sys.warnoptions),
        "utf8": sys.flags.utf8_mode,
        "hashes": os.environ.get("PYTHONHASHSEED"),
        "path": os.environ.get("PYTHONPATH"),
        "user": [os.getuid(), os.geteuid(), os.getgid(), os.getegid()],
        "limits": [list(resource.getrlimit(limit)) for limit in LIMITS],
        "priority": os.getpriority(os.PRIO_PROCESS, 0),
    }


def hand_over() -> None:
    """Have this process's stage run elsewhere and end as it does; return where nobody takes it.

    Only a process that was begun as `python -m pipeline.stages.STAGE` is handed over, and only with OMP_NUM_THREADS:
    without it the number of threads is the libraries' choice. One of a Slurm job, or of a training in several
    processes, belongs to what began it.
    """
    words = sys.orig_argv[1:]
    if words[:1] != ["-m"] or not words[1].startswith("pipeline.stages.") or OWNED & os.environ.keys():
        return
    if not os.environ.get("OMP_NUM_THREADS", "").isdigit():
        return
    with socket.socket(socket.AF_UNIX) as server:
        signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)  # until the copy is known that they are for
        try:
            copy = _asked(server, words[1], words[2:])
            if copy is not None:
                _wait(server, copy)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)


def _asked(server: socket.socket, module: str, arguments: list[str]) -> int | None:
    """Send what the copy needs; returns its process id, None where there is none."""
    asked = {
        "like": likeness(),
        "module": module,
        "arguments": arguments,
        "folder": os.getcwd(),
        "path": sys.path,
        "environment": dict(os.environ),
        "umask": _umask(),
        "cores": sorted(os.sched_getaffinity(0)),
        "ignored": [number for number in FORWARDED if signal.getsignal(number) == signal.SIG_IGN],
        "streams": [[each.encoding, each.errors, _by_lines(each)] for each in (sys.stdin, sys.stdout, sys.stderr)],
    }
    try:
        server.connect(os.environ[WARM])
        text = json.dumps(asked).encode()
        socket.send_fds(server, [len(text).to_bytes(8, "big")], [0, 1, 2])
        server.sendall(text)
        answer = server.recv(8)
    except (OSError, ValueError):  # ended, not begun, or names that are no Unicode
        return None
    return int.from_bytes(answer, "big") or None


def _wait(server: socket.socket, copy: int) -> NoReturn:
    """Wait for the copy, which is the server's child, and end by its status or its signal."""

    def forward(number: int, _: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(copy, number)

    for number in FORWARDED:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, forward)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
    answer = server.recv(8)
    # Without an answer the server is gone, and so is the copy.
    status = int.from_bytes(answer, "big", signed=True) if answer else -signal.SIGKILL
    if status < 0:
        if -status != signal.SIGKILL:
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status)


def _by_lines(stream: TextIO) -> bool:
    """Whether a line is out as soon as it is written, or every letter is."""
    return bool(stream.line_buffering or getattr(stream, "write_through", False))


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
