"""Settings that nothing reads under others: the decay of an average that is not taken, the steps of another schedule.

They change no result, so that the report does not state them and `versus summary` does not compare them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.params.settings import SECTIONS


@dataclass(frozen=True)
class Needs:
    """What another setting has to be for a setting to be read: one of some values, or none of some."""

    key: str
    among: tuple[object, ...] = ()
    but: tuple[object, ...] = ()

    def met(self, part: str, settings: Mapping[str, Any]) -> bool:
        """`settings` are those of a part of params.yaml; one that is missing is as it is by default."""
        value = settings.get(self.key, default(part, self.key))
        return value in self.among if self.among else value not in self.but


AUGMENTED = (Needs("strength", but=(0,)),)  # every amplitude is multiplied by it
AVERAGED = Needs("select", among=("average",))
TWO_PHASES = (Needs("tune", among=("head_then_full",)),)
TAUGHT = (Needs("teacher", but=(None,)),)
STEPPED = (Needs("schedule", among=("step",)),)
FOLDED = Needs("folds", but=(0,))
READ: dict[str, dict[str, tuple[Needs, ...]]] = {  # part of params.yaml -> key -> all that has to be for it to be read
    "train": {
        "step_epochs": STEPPED,
        "gamma": STEPPED,
        "warmup_epochs": (Needs("schedule", but=("onecycle",)),),  # which has its own
        "focal_gamma": (Needs("loss", among=("focal",)),),
        "margin_m": (Needs("margin", but=("none",)),),
        "margin_floor": (Needs("margin", among=("a_softmax",)),),
        "margin_scale": (Needs("margin", among=("arcface",)),),
        "average": (AVERAGED,),
        "average_start": (AVERAGED, Needs("average", among=("swa",))),
        "ema_decay": (AVERAGED, Needs("average", among=("ema",))),
        "head_epochs": TWO_PHASES,
        "full_lr_factor": TWO_PHASES,
        "teacher_replicates": TAUGHT,
        "teacher_temperature": TAUGHT,
        "teacher_weight": TAUGHT,
    },
    "augment": {
        **dict.fromkeys(("flip", "cutout", "mixup", "policy", "pca", "minority", "light", "strong"), AUGMENTED),
        "strong": (*AUGMENTED, Needs("minority", among=("strong",))),
        "crop_of": (Needs("crop_size", but=(0,)),),
    },
    "split": {
        "draws": (Needs("vary", but=("none",)),),
        "folds_by": (FOLDED,),
        "test_fraction": (Needs("folds", among=(0,)),),  # each fold is tested on once
    },
    "model": {"reduction": (Needs("attention", but=("none",)),)},  # of CBAM
}


def inert(part: str, settings: Mapping[str, Any]) -> set[str]:
    """The keys of a part of params.yaml, of one model, that nothing reads as its other keys are."""
    rules = READ.get(part, {})
    return {key for key, needs in rules.items() if not all(each.met(part, settings) for each in needs)}


def default(part: str, key: str) -> object:
    """What a setting is where it is not given; None where it has to be."""
    field = SECTIONS[part].model_fields.get(key) if part in SECTIONS else None
    return None if field is None or field.is_required() else field.get_default()
