"""The parts that params.yaml chooses by name. A new one is a file of that name, and its name here.

These are names alone: settings.py offers them without importing what they name, which `load` does when it is used.
"""

import importlib
from types import ModuleType

DATASETS = (  # datasets/<name>.py has `ABOUT`, what is known of it, and `read`
    "digits",
    "mnist",
    "cifar10",
    "fer2013",
    "rafdb",
    "jaffe",
    "caltech256",
    "folder",
)
LOSSES = (  # training/losses/<name>.py has `losses`; cross-entropy is torch's own
    "cross_entropy",
    "focal",
)
OPTIMIZERS = (  # training/optim/<name>.py has `optimizer`
    "adamw",
    "sgd",
)
SCHEDULES = (  # of the learning rate; training/optim/schedule.py has a function for each
    "cosine",
    "constant",
    "onecycle",
    "step",
)
AUGMENTATIONS = (  # images/augment/<name>.py has a function of its name, and DRAWS; in order, where the key is not 0
    "cutout",
)
TECHNIQUES = (  # networks/<name>.py has `add_<name>`, which changes a network; done in this order, where the key is on
    "blurpool",
    "squeeze_excite",
)


def load(folder: str, name: str) -> ModuleType:
    """The module `name` of a folder of the package: `training.losses`, `focal`."""
    return importlib.import_module(f"pipeline.{folder}.{name}")
