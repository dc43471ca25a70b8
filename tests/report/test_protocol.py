"""The settings on the page: as they took effect."""

from types import SimpleNamespace
from typing import Any

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


def test_settings_that_nothing_reads_are_left_out_and_what_some_read_names_them() -> None:
    """Nobody is to believe that weights were averaged where the best epoch was chosen."""
    train = load_params(trees.ROOT / "params.yaml").train.plain()

    def model(name: str, **changes: Any) -> SimpleNamespace:
        config = {"train": {**train, **changes}, "augment": {"strength": 0, "flip": True}, "model": {}}
        return SimpleNamespace(name=name, first=SimpleNamespace(config=config), evaluations=[])

    found = SimpleNamespace(
        models=[model("cnn"), model("vit", schedule="step", gamma=0.5)], data=SimpleNamespace(flip=True)
    )
    shown = dict(protocol.of_the_training(found)["train"])  # type: ignore[arg-type]
    assert shown.keys().isdisjoint({"average", "average_start", "ema_decay", "focal_gamma", "margin_m", "head_epochs"})
    assert shown["schedule"] == "cosine (cnn); step (vit)"
    assert shown["gamma"] == "0.5 (vit)"
    assert shown["select"] == "best"
    assert dict(protocol.of_the_training(found)["augment"]) == {"strength": "0"}  # type: ignore[arg-type]
