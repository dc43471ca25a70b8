"""A checkout that was moved or copied: MLflow's data base keeps full paths, which would lead to the old place."""

import contextlib
import sqlite3
from pathlib import Path
from urllib.parse import quote, unquote, urlparse

PLACES = {  # table -> column that holds the address of a folder of artifacts
    "experiments": "artifact_location",
    "runs": "artifact_uri",
    "logged_models": "artifact_location",
    "model_versions": "storage_location",
}


def follow(database: Path, known: str, artifacts: Path, study: str) -> None:
    """Have the data base name the folder `artifacts`, which lies beside it, in place of an earlier one.

    `known` is the address that it has of a study's artifacts: `<folder>/<study>`, as `artifacts / study` was when the
    study ran first. Any other is left alone.
    """
    old = next((known.removesuffix(end) for end in (f"/{study}", f"/{quote(study)}") if known.endswith(end)), "")
    new = artifacts.as_uri()
    if old == new or not old.startswith("file:") or not old.endswith(f"/{artifacts.name}"):
        return
    with contextlib.closing(sqlite3.connect(database, timeout=60)) as connection, connection:
        for table, column in PLACES.items():
            connection.execute(
                f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?",
                (new, len(old) + 1, len(old) + 1, f"{old}/"),
            )
    before = Path(unquote(urlparse(old).path)).parent
    print(f"versus: this checkout was at {before}; its MLflow runs are in {artifacts} now")
