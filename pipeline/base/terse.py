"""DVC's command without the lines that say what it had no need to do, which are most of them: `python terse.py repro`.

DVC has no setting between all that it says and `--quiet`, which leaves out errors. A filter on its loggers knows a few
lines by their text in DVC's code; all else stays: what runs, warnings, errors, what another version words otherwise.
It is run by its path, wherever that may be, and imports nothing of the project.
"""

import logging
import sys
from typing import Any

NEEDLESS = (
    "Stage '%s' didn't change, skipping",
    "Stage '%s' is cached - skipping run, checking out outputs",
    "Generating lock file '%s'",
    "Updating lock file '%s'",
    "",  # between stages
)
PUSH = "Use `dvc push` to send your updates to remote storage."  # said whether there is one or not


def hush() -> None:
    """Have DVC leave out NEEDLESS in this process."""
    import dvc  # noqa: F401 (which gives its loggers their handlers)

    for handler in logging.getLogger("dvc").handlers:
        handler.addFilter(needed)


def needed(record: logging.LogRecord) -> bool:
    return record.levelno > logging.INFO or record.msg not in NEEDLESS


def main() -> int:
    from dvc.cli import main as run
    from dvc.config import Config
    from dvc.ui import ui

    write = ui.write

    def said(*objects: Any, **options: Any) -> None:
        if objects != (PUSH,) or Config.from_cwd()["remote"]:
            write(*objects, **options)

    hush()
    ui.write = said
    return int(run())


if __name__ == "__main__":
    sys.exit(main())
