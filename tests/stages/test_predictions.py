"""What git keeps of the predictions is what evaluate left, of the trainings that params.yaml names."""

from pathlib import Path

import pytest

from pipeline.stages import predictions
from tests import small_study, trees


def test_those_of_named_trainings_are_copied_and_all_else_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(small_study.write(tmp_path, {"replicates": [0, 1]}))
    for name in ("tiny-0", "vit-1", "old-0"):
        trees.put(Path(f"data/predictions/{name}.parquet"), name.encode())
    for name in ("old-0.parquet", "tiny-0.csv"):  # of a model that is gone, and of an earlier version
        trees.put(Path("reports/predictions") / name, b"")
    predictions.main()
    found = {path.name: path.read_text() for path in Path("reports/predictions").iterdir()}
    assert found == {"tiny-0.parquet": "tiny-0", "vit-1.parquet": "vit-1"}
