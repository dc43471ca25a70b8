"""The settings on the page: as they took effect."""

from types import SimpleNamespace

import pytest

from pipeline.params.read import load_params
from pipeline.report.sections import protocol
from tests import trees


@pytest.mark.parametrize(
    ("vary", "told"),
    [
        ("none", "not used: the official split was kept"),
        ("validation", "not used: as many validation images as officially, drawn anew"),
    ],
)
def test_official_validation_images_that_are_drawn_anew_are_not_said_to_be_kept(vary: str, told: str) -> None:
    data = SimpleNamespace(published={"val": 3_589, "test": 3_589}, vary=vary)
    found = SimpleNamespace(data=data, settings=load_params(trees.ROOT / "params.yaml"))
    split = dict(protocol.of_the_data(found)["split"])  # type: ignore[arg-type]
    assert split["val_fraction"] == told
    assert split["test_fraction"] == "not used: the official split was kept"
