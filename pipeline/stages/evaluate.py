"""Score one trained model on the test images, once: `python -m pipeline.stages.evaluate MODEL REPLICATE`.

In float32. Leaves reports/evaluations/<model>-<replicate>.json, which holds all that a report says of this training,
data/predictions/<model>-<replicate>.parquet, every test image with its probabilities, and all digits of these in
data/logits/<model>-<replicate>.npy. `dvc plots` draws the evaluation as evaluate.vega.json says.
"""

import argparse
import base64
import dataclasses
import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from pipeline import networks
from pipeline.base.errors import StageError
from pipeline.base.files import sha256, written_whole
from pipeline.base.places import FIT, TEST, replicate_folder
from pipeline.base.process import run
from pipeline.images import packed
from pipeline.images.form import Format, evaluation_batches
from pipeline.images.manifest import image_names
from pipeline.inference import forward, loading
from pipeline.inference.device import be_deterministic, keep_freed_memory, pick_device
from pipeline.params.read import load_params
from pipeline.records.diary import Diary
from pipeline.records.evaluation import ClassScores, Cost, Evaluation, Inflation, Mistake, Origin
from pipeline.records.predictions import Predictions, cached_path, logits_path
from pipeline.scoring import calibration, conformal, metrics
from pipeline.tracking import looks, runs
from pipeline.trained.inflation import inflation
from pipeline.trained.onnx import BATCH, compare
from pipeline.trained.onnx import session as onnx_session
from pipeline.training import resume

WEIGHTS = "weights.safetensors"
FRACTIONS = ("precision", "recall", "f1")
Views = tuple[Tensor, Tensor | None]  # logits (N, K), and those of the first view alone where there are several
TOP = 5  # of more classes than these, the share of images whose class is among the likeliest


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m pipeline.stages.evaluate", description="Score one trained model.")
    parser.add_argument("model", help="a name below `models` in params.yaml")
    parser.add_argument("replicate", type=int, help="one of `replicates` in params.yaml")
    arguments = parser.parse_args()
    evaluate(f"{arguments.model}-{arguments.replicate}")


def evaluate(name: str, given: Views | None = None) -> None:
    """Score the trained model in models/<name>, and write and log what is found.

    `given` is what the network said of the test images on another machine: this one need not have the device that the
    settings name.
    """
    keep_freed_memory()
    subject, study = read(name), load_params()
    if subject.config["train"].get("deterministic"):
        be_deterministic()
    cost = cost_of(subject, study.evaluate.onnx)
    logits, first = given or predicted(subject)
    evaluation = evaluated(subject, logits, first, cost)
    if study.evaluate.inflation:
        device = pick_device("auto" if given else subject.config["train"]["device"])
        evaluation = dataclasses.replace(evaluation, inflation=inflated(subject, evaluation.scores, device))
    looks.note(evaluation, subject.info["digest"])
    log(subject, evaluation, save(subject, evaluation, logits))
    resume.discard(subject.diary.key)
    accuracy, macro_f1 = evaluation.scores["accuracy"], evaluation.scores["macro_f1"]
    print(f"evaluate: {name} accuracy {accuracy:.4f}, macro-F1 {macro_f1:.4f}, n = {evaluation.images}")


@dataclasses.dataclass(frozen=True)
class Subject:
    """A trained network and the test images that it is scored on."""

    folder: Path  # of the network
    network: nn.Module
    config: dict[str, Any]  # resolved
    diary: Diary
    form: Format
    info: dict[str, Any]  # what split says of the images
    images: packed.Images
    names: list[str]  # of the images' files

    @property
    def classes(self) -> list[str]:
        return self.info["classes"]

    @property
    def actual(self) -> np.ndarray:
        """Labels (N,)"""
        return self.images.labels.numpy()

    @property
    def batch_size(self) -> int:
        return self.config["train"]["batch_size"]


def read(name: str) -> Subject:
    """The trained model of a name and its test images; raises StageError if these are of other classes."""
    folder = Path("models") / name
    network, config = loading.load(folder)
    diary = Diary.read(folder)
    test = replicate_folder(TEST, config["replicate"])
    info, images = packed.read_info(test), packed.read(test)
    if info["classes"] != config["classes"]:
        raise StageError(
            f"evaluate: {name} was trained on classes {config['classes']}, the test images have {info['classes']}"
        )
    network = network.to(memory_format=torch.channels_last)  # as processors read images
    names = image_names(test)
    return Subject(folder, network, config, diary, loading.image_format(config), info, images, names)


def cost_of(subject: Subject, onnx: bool) -> Cost:
    """What training and network cost; with `onnx` also whether ONNX Runtime finds other classes. On the CPU."""
    return Cost(
        **measure_cost(subject.network, subject.form, subject.folder / WEIGHTS),
        cpu_threads=torch.get_num_threads(),
        onnx_differing=differing_in_onnx(subject.network, subject.images, subject.form) if onnx else None,
        train_seconds=subject.diary.seconds,
        epochs=subject.config["train"]["epochs"],
        **dataclasses.asdict(subject.diary.usage),
    )


def predicted(subject: Subject) -> Views:
    """What the network says, on the device that the settings name."""
    device = pick_device(subject.config["train"]["device"])
    return forward.of_views(subject.network, subject.images, subject.form, device, subject.batch_size)


def evaluated(subject: Subject, logits: Tensor, first: Tensor | None, cost: Cost) -> Evaluation:
    """All that logits (N, K) tell of a training, inflation apart; `first` are those of one view."""
    config, classes, diary = subject.config, subject.classes, subject.diary
    confusion = confusion_of(subject, logits)
    scores = metrics.scores(confusion)
    if len(classes) > TOP:
        scores[f"top{TOP}_accuracy"] = metrics.top_k_accuracy(subject.actual, logits.numpy(), TOP)
    shown = subject.info.get("shareable")
    return Evaluation(
        model=config["model"],
        replicate=config["replicate"],
        classes=class_scores(confusion, classes),
        scores=scores,
        one_view=None if first is None else metrics.scores(confusion_of(subject, first)),
        calibration=believed(subject, logits),
        images=len(subject.images),
        mistakes=mistakes(subject.images, confusion, probabilities(logits), classes) if shown else [],
        train_images=diary.train_images,
        selected=diary.selected,
        cost=cost,
        machine=diary.machine,
        run=origin(subject),
        config=loading.settings(config),
        overrides=config["overrides"],
        initialisation=networks.initialisation(subject.network, config),
    )


def confusion_of(subject: Subject, logits: Tensor) -> np.ndarray:
    return metrics.confusion_matrix(subject.actual, logits.argmax(1).numpy(), len(subject.classes))


def believed(subject: Subject, logits: Tensor) -> dict[str, float | None]:
    """How far probabilities can be believed, before and after a temperature, and what conformal sets hold."""
    known = validation(subject.folder, subject.config)
    answers, drawn = (known, logits.numpy(), subject.actual), np.random.default_rng(subject.config["replicate"])
    return calibration.believed(*answers) | conformal.covered(*answers, drawn)


def probabilities(logits: Tensor) -> np.ndarray:
    """(N, K) in double precision."""
    return logits.double().softmax(1).numpy()


def origin(subject: Subject) -> Origin:
    diary = subject.diary
    return Origin(
        key=diary.key,
        commit=diary.commit,
        started=diary.started,
        weights_sha256=sha256(subject.folder / WEIGHTS),
    )


def inflated(subject: Subject, honest: dict[str, float], device: torch.device) -> Inflation | None:
    """What choosing the epoch on the test images would pretend. Changes the network's weights."""
    return inflation(
        subject.folder,
        subject.network,
        subject.images,
        subject.form,
        device,
        subject.config,
        honest,
    )


def save(subject: Subject, evaluation: Evaluation, logits: Tensor) -> tuple[Path, Path]:
    """Write what was found; returns the files that MLflow is to keep."""
    name = subject.folder.name
    record, images = Path(f"reports/evaluations/{name}.json"), cached_path(name)
    with written_whole(logits_path(name)) as partial, partial.open("wb") as file:
        np.save(file, logits.numpy())
    with written_whole(record) as partial:
        dataclasses.replace(evaluation, logits_sha256=sha256(logits_path(name))).write(partial)
    with written_whole(images) as partial:
        predictions(subject, logits).write(partial)
    return record, images


def log(subject: Subject, evaluation: Evaluation, paths: tuple[Path, ...]) -> None:
    """Tell MLflow, and give it the files at `paths`."""
    name, key, config = subject.folder.name, subject.diary.key, subject.config
    model = (subject.folder, subject.images.pixels[:1].numpy(), subject.info["resize"])
    with runs.evaluation_run(name, key, config, lambda run: run.model(*model)) as tracked:
        tracked.dataset(config["data"]["title"], subject.info["digest"], config["data"]["dataset"], "test")
        tracked.metrics({f"test_{key}": value for key, value in evaluation.scores.items()})
        tracked.metrics({f"test_f1/{row.name}": row.f1 for row in evaluation.classes})
        tracked.metrics({f"test_one_view_{key}": value for key, value in (evaluation.one_view or {}).items()})
        tracked.metrics(evaluation.cost.measured())
        tracked.metrics({f"test_{key}": value for key, value in evaluation.calibration.items() if value is not None})
        if evaluation.inflation:
            tracked.metrics({f"inflation_{key}": gap for key, gap in evaluation.inflation.gap.items()})
        for path in paths:
            tracked.artifact(path)
        tracked.confusion(np.array(evaluation.confusion), subject.classes)


def validation(folder: Path, config: dict[str, Any]) -> tuple[np.ndarray, np.ndarray] | None:
    """Logits (N, K) and labels (N,) of the validation images, as train and split left them.

    None where they were trained on: what a network makes of those says nothing of new images.
    """
    if config["train"].get("include_validation"):
        return None
    fit = replicate_folder(FIT, config["replicate"])
    logits, labels = np.load(folder / "val_logits.npy"), np.load(fit / "val_labels.npy")
    if len(logits) != len(labels):
        raise StageError(
            f"evaluate: {folder} has logits of {len(logits)} validation images, {fit} {len(labels)} labels; run"
            " `dvc repro`"
        )
    return logits, labels


def measure_cost(network: nn.Module, form: Format, weights: Path) -> dict[str, int]:
    """Parameters, floating-point operations of one image's forward pass, bytes of weights."""
    return {
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "flops": forward.flops(network, form),
        "weight_bytes": weights.stat().st_size,
    }


def differing_in_onnx(network: nn.Module, images: packed.Images, form: Format) -> int:
    """For how many images ONNX Runtime finds another class likeliest; of several views it is the first that counts."""
    session = onnx_session(network.eval(), form)
    with torch.inference_mode():
        batches = evaluation_batches(images, form, BATCH, torch.device("cpu"))
        return compare(session, network, batches).differing


def class_scores(confusion: np.ndarray, classes: list[str]) -> list[ClassScores]:
    """Precision, recall, F1 and support of each class, and what its images were predicted as."""
    columns = metrics.per_class(confusion)
    defined = {key: [None if np.isnan(value) else value.item() for value in columns[key]] for key in FRACTIONS}
    return [
        ClassScores(
            name,
            **{key: column[index] for key, column in defined.items()},
            support=int(confusion[index].sum()),
            predicted_as=confusion[index].tolist(),
        )
        for index, name in enumerate(classes)
    ]


def mistakes(
    images: packed.Images, confusion: np.ndarray, probabilities: np.ndarray, classes: list[str], pairs: int = 4
) -> list[Mistake]:
    """The surest mistake in either direction of the `pairs` of classes confused most, each as a PNG in base64."""
    both = np.tril(confusion + confusion.T, -1)  # (K, K)
    order = np.argsort(-both, axis=None, kind="stable")[: min(pairs, np.count_nonzero(both))]
    ranked = [divmod(int(place), len(classes)) for place in order]
    found = []
    for first, second in ranked:
        for actual, predicted in ((first, second), (second, first)):
            of_class = (images.labels.numpy() == actual) & (probabilities.argmax(1) == predicted)
            if not of_class.any():
                continue
            row = int(np.where(of_class, probabilities[:, predicted], -1).argmax())
            found.append(Mistake(classes[actual], classes[predicted], png(images.pixels[row].numpy())))
    return found


def png(pixels: np.ndarray) -> str:
    """An image (S, S, C) in base64."""
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(buffer, "png")
    return base64.b64encode(buffer.getvalue()).decode()


def predictions(subject: Subject, logits: Tensor) -> Predictions:
    """What logits (N, K) say of each test image, by the name of its file."""
    predicted = logits.argmax(1).numpy()
    return Predictions.of(subject.classes, subject.actual, predicted, probabilities(logits), subject.names)


if __name__ == "__main__":
    run(main)
