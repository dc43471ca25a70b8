"""Score one trained model on corrupted test images: `python -m pipeline.stages.corrupt MODEL REPLICATE`.

Every corruption of images/corruptions in each severity that params.yaml names, drawn by its seed: the same images for
every model. They are made as they are needed and kept nowhere, so that nothing can train on them. Leaves
reports/corruptions/<model>-<replicate>.json. There is no such stage unless `corruptions.replicates`
names the replicate.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch

from pipeline.base.files import sha256, written_whole
from pipeline.base.places import TEST, replicate_folder
from pipeline.base.process import run
from pipeline.images import packed
from pipeline.images.corruptions import PANEL, corrupted
from pipeline.inference import forward, loading
from pipeline.inference.device import be_deterministic, keep_freed_memory, memory_remedy, pick_device
from pipeline.params.read import load_params
from pipeline.params.settings import Corruptions
from pipeline.records.corruptions import Corrupted, Variant, corrupted_path
from pipeline.tracking import looks

BATCH = 256  # images scored at a time, at least: nothing is kept for a step back


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m pipeline.stages.corrupt", description="Score on corrupted images.")
    parser.add_argument("model", help="a name below `models` in params.yaml")
    parser.add_argument("replicate", type=int, help="one of `corruptions.replicates` in params.yaml")
    arguments = parser.parse_args()
    corrupt(f"{arguments.model}-{arguments.replicate}")


def corrupt(name: str) -> None:
    """Score the trained model in models/<name>, and write what is found."""
    keep_freed_memory()
    wanted, folder = load_params().corruptions, Path("models") / name
    network, config = loading.load(folder)
    if config["train"].get("deterministic"):
        be_deterministic()
    device = torch.device("cpu") if config["train"]["device"] == "cpu" else pick_device("auto")  # it may have come here
    test = replicate_folder(TEST, config["replicate"])
    images = packed.read(test)
    with memory_remedy("free memory on the device"):
        network = network.to(memory_format=torch.channels_last).to(device)  # as processors read images

        def right(variant: packed.Images) -> torch.Tensor:
            size = max(BATCH, config["train"]["batch_size"])
            logits = forward.predict(network, variant, loading.image_format(config), device, size)
            return logits.argmax(1) == variant.labels

        found = [
            Variant.of(corruption, PANEL[corruption].kind, severity, right(variant).numpy())
            for corruption, severity, variant in variants(images, wanted)
        ]
    digest = sha256(folder / "weights.safetensors")
    with written_whole(corrupted_path(name)) as partial:
        made = Corrupted(config["model"], config["replicate"], digest, wanted.seed, len(images), found)
        made.write(partial)
    looks.note_corrupted(made, loading.settings(config), packed.read_info(test)["digest"])
    mean = sum(each.accuracy for each in found) / len(found)
    print(f"corrupt: {name} accuracy {mean:.4f} over {len(found)} variants of {len(images):,} test images")


def variants(images: packed.Images, wanted: Corruptions) -> Iterator[tuple[str, int, packed.Images]]:
    """Corruption, severity and the corrupted images, one after the other."""
    for corruption in PANEL:
        for severity in wanted.severities:
            pixels = corrupted(images.pixels, corruption, severity, wanted.seed)
            yield corruption, severity, packed.Images(pixels, images.labels)


if __name__ == "__main__":
    run(main)
