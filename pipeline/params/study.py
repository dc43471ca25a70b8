"""A whole params.yaml, and what it says of one model: its network, its augmentation, its training."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from pipeline.params.messages import validated
from pipeline.params.settings import (
    Augment,
    Corruptions,
    Dataset,
    Evaluate,
    Frozen,
    Launch,
    Model,
    Nothing,
    Published,
    Seed,
    Space,
    Split,
    Train,
    Tune,
    Verdict,
)


class Params(Frozen):
    dataset: Dataset
    split: Split
    replicates: Annotated[tuple[Seed, ...], Field(min_length=1, max_length=1000, strict=False)]
    augment: Augment
    train: Train
    models: Annotated[dict[str, Model], Field(min_length=1, max_length=1000)]
    tune: Annotated[Tune, Field(examples=[{"trials": [], "models": {}, "finalists": []}])]
    published: Annotated[tuple[Published, ...], Field(strict=False, examples=[[]])]
    evaluate: Annotated[Evaluate, Field(examples=[{"onnx": False}])]
    corruptions: Annotated[Corruptions, Field(examples=[{"replicates": []}])]
    verdict: Verdict = Verdict()
    # DVC reads it too, and dvc.yaml has the same default
    teachers: dict[str, Nothing] = Field(
        {}, description="models that teach others, trained before them, such as {cnn: {}}"
    )
    launch: Launch = Launch()

    def model_train(self, name: str) -> Train:
        """The protocol as model `name` is trained: `train` with the model's own overrides."""
        return validated(Train, {**self.train.model_dump(), **self.models[name].train}, f"models.{name}.train")

    def network(self, name: str) -> dict[str, Any]:
        """What the network of model `name` is built from; with a margin it has a classifier by angle."""
        found = self.models[name].model_dump(exclude={"augment", "train", "train_fraction"})
        train = self.model_train(name)
        if train.margin != "none":
            found["angular"] = train.margin_scale if train.margin == "arcface" else 0.0
        return found

    def model_augment(self, name: str) -> Augment:
        """The augmentation of model `name`: `augment` with the model's own overrides."""
        own = self.models[name].augment
        return validated(Augment, {**self.augment.model_dump(), **own}, f"models.{name}.augment")

    # teaching

    def teachers_of(self, name: str, replicate: int) -> list[str]:
        """The trainings that teach one of model `name`, such as cnn-0; none where it has no teacher."""
        train = self.model_train(name)
        numbers = self.replicates if train.teacher_replicates == "all" else (replicate,)
        return [f"{train.teacher}-{number}" for number in numbers] if train.teacher else []

    # tuning

    def tuned(self, name: str) -> bool:
        """Whether trials choose settings of model `name`."""
        return bool(self.tune.trials) and name in self.tune.models

    def space(self, name: str) -> Space:
        """What is searched for model `name`: what all models, its family's and it alone have."""
        family = self.tune.families.get(self.models[name].family, {})
        return {**self.tune.space, **family, **self.tune.models.get(name, {})}

    def having(self, name: str, settings: Mapping[str, Any]) -> "Params":
        """The same study, but for some settings of model `name`, named as in `tune.space`.

        Raises StageError where a setting is not what its place takes.
        """
        content = self.models[name].model_dump()
        for key, value in settings.items():
            part, _, rest = key.partition(".")
            content |= {part: {**content.get(part, {}), rest: value} if rest else value}
        model = validated(type(self.models[name]), content, f"models.{name}")
        return self.model_copy(update={"models": {**self.models, name: model}})

    def shortened(self, name: str, epochs: int) -> "Params":
        """The same study, model `name` trained for so many epochs, its warm-up shortened alike."""
        train = self.model_train(name)
        warmup = train.warmup_epochs * epochs // train.epochs
        return self.having(name, {"train.epochs": epochs, "train.warmup_epochs": warmup})

    def only(self, name: str) -> "Params":
        """The same study with model `name` alone."""
        return self.model_copy(update={"models": {name: self.models[name]}})
