"""The study's champion in MLflow's registry: the model of the highest validation score."""

import contextlib
import json
import sys
from collections.abc import Mapping
from typing import Any

from pipeline.base import escape
from pipeline.base.errors import shown
from pipeline.base.places import study
from pipeline.tracking.provenance import described, experiment_name, provenance
from pipeline.tracking.store import equals, only_writer

CHAMPION = "champion"
SERVING = ("numpy", "pandas", "pillow", "safetensors", "timm", "torch")  # of a logged model


def logged_model(client: Any, experiment: str, key: str) -> str | None:
    """The id of the model that the newest finished training of this key logged."""
    query = f"tags.`versus.key` = '{key}' and attributes.status = 'FINISHED'"
    runs = client.search_runs([experiment], query, order_by=["attributes.start_time DESC"])
    return next((model.model_id for run in runs if run.outputs for model in run.outputs.model_outputs), None)


def register(client: Any, run: str, model: str, evaluation: Mapping[str, Any]) -> None:
    """Register the logged `model` of one of evaluate's results, once, and give it the alias if it takes that over.

    A registered model of the study's name that others made, on a store that is shared, stays as it is.
    """
    from mlflow import MlflowException
    from mlflow.entities.model_registry import ModelVersion

    name, tags = study(), _tags(evaluation)
    with only_writer():
        with contextlib.suppress(MlflowException):  # it is there
            client.create_registered_model(name)
        found: list[ModelVersion] = list(client.search_model_versions(equals("name", name)))
        versions = [each for each in found if each.name == name]
        holder = client.get_registered_model(name).aliases.get(CHAMPION)  # a search tells no aliases
        present = next((each for each in versions if str(each.version) == str(holder)), None)  # a server's: text
        if any("versus.key" not in each.tags for each in ([present] if present else versions)):
            print(
                f"versus: MLflow's registry has a model {shown(name)} that is not of Versus; it stays as it is, and no"
                " champion is named: rename one of them",
                file=sys.stderr,
            )
            return
        client.update_registered_model(name, about(name, evaluation))
        if present is not None and not takes_over(tags, present.tags):
            return
        same = next((each for each in versions if each.tags.get("versus.key") == tags["versus.key"]), None)
        if same is None:
            text = _description(evaluation)
            same = client.create_model_version(
                name, f"models:/{model}", model_id=model, run_id=run, tags=tags, description=text
            )
            seen = json.dumps([{"name": name, "version": same.version}])  # beside it in the table of models
            client.set_logged_model_tags(model, {"mlflow.modelVersions": seen})
        client.set_registered_model_alias(name, CHAMPION, same.version)


def _tags(evaluation: Mapping[str, Any]) -> dict[str, str]:
    """Those of a model's version; the run that it comes from has the rest."""
    return {
        "versus.key": evaluation["run"]["key"],
        "versus.model": evaluation["model"],
        "versus.replicate": str(evaluation["replicate"]),
        "versus.data": evaluation["config"]["dataset"]["digest"],
        "val_macro_f1": repr(evaluation["selected"]["val_macro_f1"]),
        **{key: value for key, value in provenance().items() if key in ("dvc.experiment", "dvc.changes")},
    }


def _description(evaluation: Mapping[str, Any]) -> str:
    config, replicate = evaluation["config"], evaluation["replicate"]
    parts = {"network": config["model"], "replicate": replicate, "data": config["dataset"]}
    validation = evaluation["selected"]["val_macro_f1"]
    return f"{evaluation['model']}-{replicate}: validation macro-F1 {validation:.4f}; {described(parts)}."


def about(name: str, evaluation: Mapping[str, Any]) -> str:
    """What the registry says of a study's registered model."""
    classes = ", ".join(escape.markdown(row["class"]) for row in evaluation["classes"])
    load = escape.code(
        f"mlflow.pyfunc.load_model({json.dumps(f'models:/{name}@{CHAMPION}', ensure_ascii=False)}).predict(images)"
    )
    return (
        f"The trained models of study {escape.markdown(name)} that had its highest validation macro-F1; `{CHAMPION}` is"
        f" the present one. Test images chose nothing.\n\n{load}"
        f" takes uint8 (N, H, W, C) of any size, or a list of image files as bytes or base64, and gives a row for each"
        f" image: its class and a probability for each of {classes}."
    )


def takes_over(new: Mapping[str, str], present: Mapping[str, str]) -> bool:
    """Whether a model takes the place of the present champion; both by their versions' tags."""
    if not experiment_name():
        return True
    if new["versus.data"] != present.get("versus.data"):
        return False
    return float(new["val_macro_f1"]) > float(present["val_macro_f1"])
