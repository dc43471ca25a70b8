"""A process that has imported the libraries once and becomes any stage that asks for it, in a copy of itself.

`kept` has one while a launch runs; pipeline/base/handover.py is a stage's side of it. A copy has the modules of Versus
from the checkout that it works in. The process ends when its standard input does, a pipe that the launcher holds, and
its copies with it.
"""

import contextlib
import ctypes
import dataclasses
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any, TextIO

from pipeline.base.handover import FORWARDED, WARM, likeness
from pipeline.launch.executor import forget_source, with_source

LIBRARIES = (  # what stages import of others, except what few of them need
    *("torch", "torchvision", "timm", "safetensors.torch", "numpy", "pandas", "pyarrow.parquet", "scipy.stats"),
    *("sklearn.metrics", "sklearn.model_selection", "PIL.Image", "ruamel.yaml", "pydantic", "psutil", "git"),
    *("mlflow", "mlflow.store.tracking.sqlalchemy_store", "matplotlib.pyplot", "seaborn", "jinja2"),
)
# So that no library begins a thread.
ALONE = {"OMP_NUM_THREADS": "1", "JE_ARROW_MALLOC_CONF": "background_thread:false"}
PATIENCE = 10  # seconds that a request may take to arrive
PR_SET_PDEATHSIG = 1


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Keep one while the body runs: stages that begin meanwhile find it by VERSUS_WARM. On Linux alone."""
    if sys.platform != "linux" or WARM in os.environ:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="versus-") as folder:
        path = f"{folder}/socket"
        variables = {**os.environ, **ALONE, "PYTHONPATH": with_source()}
        process = subprocess.Popen(
            [sys.executable, "-m", "pipeline.launch.warm", path],
            env=variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # a terminal's Ctrl-C is for the stages, which hand it on
        )
        assert process.stdin
        os.environ[WARM] = path
        try:
            yield
        finally:
            del os.environ[WARM]
            process.stdin.close()
            process.wait()


@dataclasses.dataclass
class Copy:
    """One that runs a stage: its process, and the socket of the stage's own process."""

    pid: int
    handle: int  # its pidfd
    asker: socket.socket

    def say(self, number: int) -> None:
        with contextlib.suppress(OSError):  # the stage is gone
            self.asker.sendall(number.to_bytes(8, "big", signed=True))

    def close(self) -> None:
        os.close(self.handle)
        self.asker.close()


class Asked(BaseException):
    """Raised in a copy, so that nothing of what begot it stays open or on the stack: what it is to run."""

    def __init__(self, what: dict[str, Any]) -> None:
        self.what = what


def main() -> None:
    forget_source()
    given = dict(os.environ)
    for name in LIBRARIES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    if len(os.listdir("/proc/self/task")) > 1:
        return  # a library began a thread, which a copy would lack
    gc.collect()
    gc.freeze()  # no copy's collections look at, and thereby copy, what was imported
    try:
        serve(sys.argv[1])
        return
    except Asked as asked:
        what = asked.what
    become(what, {name: value for name, value in os.environ.items() if name not in given})
    runpy.run_module(what["module"], run_name="__main__", alter_sys=True)


def serve(path: str) -> None:
    """Answer stages until the standard input ends; raises Asked in each copy."""
    with socket.socket(socket.AF_UNIX) as listener, selectors.DefaultSelector() as selector:
        listener.bind(path)
        listener.listen(64)
        selector.register(listener, selectors.EVENT_READ)
        selector.register(0, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fd == 0:
                    return
                if key.data is None:
                    _answer(listener, selector)
                elif selector.get_map().get(key.fd) is key:  # its copy has not ended in this round
                    _end(key.data, selector, killed=key.fd != key.data.handle)


def _answer(listener: socket.socket, selector: selectors.BaseSelector) -> None:
    """Read what a stage asks for and fork; a stage that gets no answer goes on by itself."""
    asker, _ = listener.accept()
    asker.settimeout(PATIENCE)
    streams: list[int] = []
    try:
        head, streams, *_ = socket.recv_fds(asker, 8, 3)
        asked = json.loads(_received(asker, int.from_bytes(head, "big")))
        if asked["like"] != json.loads(json.dumps(likeness())):
            raise ValueError("not as this one is")
        pid = os.fork()
        if pid == 0:
            for number, stream in enumerate(streams):
                os.dup2(stream, number)
    except (OSError, ValueError):
        asker.close()
        return
    finally:
        for stream in streams:
            os.close(stream)
    if pid == 0:
        for copy in {key.data.pid: key.data for key in selector.get_map().values() if key.data}.values():
            copy.close()
        asker.close()
        raise Asked(asked)
    try:
        copy = Copy(pid, os.pidfd_open(pid), asker)
    except OSError:  # too many files are open: the stage goes on by itself
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        asker.close()
        return
    selector.register(copy.handle, selectors.EVENT_READ, copy)
    selector.register(asker, selectors.EVENT_READ, copy)
    copy.say(pid)


def _received(asker: socket.socket, size: int) -> bytes:
    found = bytearray()
    while len(found) < size:
        part = asker.recv(size - len(found))
        if not part:
            raise OSError("the request was cut short")
        found += part
    return bytes(found)


def _end(copy: Copy, selector: selectors.BaseSelector, killed: bool) -> None:
    """Tell a stage how its copy ended; where the stage itself was killed, so is the copy."""
    if killed:
        signal.pidfd_send_signal(copy.handle, signal.SIGKILL)
    _, status = os.waitpid(copy.pid, 0)
    selector.unregister(copy.handle)
    selector.unregister(copy.asker)
    copy.say(os.waitstatus_to_exitcode(status))
    copy.close()


def become(asked: dict[str, Any], imported: dict[str, str]) -> None:
    """Take over from the process of a stage whatever it had: folder, arguments, variables, cores, threads, streams.

    `imported` are the variables that libraries set when they are imported.
    """
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    os.setpgid(0, 0)
    os.environ.clear()
    os.environ.update(imported | asked["environment"])
    del os.environ[WARM]  # there is nothing left to hand over
    time.tzset()
    os.umask(asked["umask"])
    os.sched_setaffinity(0, asked["cores"])
    os.chdir(asked["folder"])
    for number in FORWARDED:
        default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        signal.signal(number, signal.SIG_IGN if number in asked["ignored"] else default)
    sys.stdin, sys.stdout, sys.stderr = (_stream(number, *words) for number, words in enumerate(asked["streams"]))
    sys.path[:] = asked["path"]
    sys.argv[1:] = asked["arguments"]
    sys.orig_argv[1:] = ["-m", asked["module"], *asked["arguments"]]
    for name in [each for each in sys.modules if each.partition(".")[0] == "pipeline"]:
        del sys.modules[name]
    importlib.invalidate_caches()
    _have_threads(int(asked["environment"]["OMP_NUM_THREADS"]))


def _stream(number: int, encoding: str, errors: str, by_lines: bool) -> TextIO:
    """Standard input, output or error as Python opened it."""
    return open(number, "w" if number else "r", 1 if by_lines else -1, encoding, errors, closefd=False)


def _have_threads(number: int) -> None:
    """Let the libraries compute on so many threads, as they would had they been imported with OMP_NUM_THREADS."""
    import threadpoolctl
    import torch

    threadpoolctl.threadpool_limits(number)
    torch.set_num_threads(number)


if __name__ == "__main__":
    main()
