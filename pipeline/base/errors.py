"""Faults that a user can mend, as one line that says what was found and what to do."""

import errno
import re
import sys

FULL = (  # as Python, torch's two writers, numpy and SQLite say it
    "No space left|File too large|Disk quota exceeded|iostream error|inline_container|requested and \\d+ written"
    "|disk is full"
)
PASSING = 75  # the exit status for what may pass, as sysexits.h has it


class StageError(Exception):
    """A fault that the user can mend; its text says what was found and what to do."""


class PassingError(StageError):
    """What may be over by itself: a store that is away, memory that others use. `versus launch` tries again."""


class Terminated(KeyboardInterrupt):
    """SIGTERM: ends a stage as Ctrl-C does."""


def disk_fault(error: BaseException) -> str:
    """What to do where an error says that a disk is full or may not be written; empty where it says neither."""
    if disk_full(error):
        return (
            f"the disk is full ({' '.join(str(error).split())[:200]}); nothing was left half-written: free some space"
            " (`versus prune` lists what may go)"
        )
    if isinstance(error, OSError) and error.filename and error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return f"{error.filename}: {error.strerror}; give this user the right to it, or work in a copy of the checkout,"
    return ""


def disk_full(error: BaseException) -> bool:
    """Whether an error says that a disk, a quota or a limit on files is exhausted; libraries wrap it in their own."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return True
    return re.search(FULL, str(error)) is not None


def shown(name: str, most: int = 160) -> str:
    """A name from elsewhere as a message may show it: on one line, what is not printable escaped, the middle cut."""
    text = name if name.isprintable() else "".join(map(_escaped, name))
    return text if len(text) <= most else f"{text[: most // 2]}...{text[-most // 2 :]}"


def _escaped(letter: str) -> str:
    return letter if letter.isprintable() else letter.encode("unicode_escape").decode()


def legible(text: str) -> str:
    """A message as a terminal may show it, its lines as they are: what is not printable escaped, nothing cut."""
    return "\n".join(shown(line, sys.maxsize) for line in text.split("\n"))
