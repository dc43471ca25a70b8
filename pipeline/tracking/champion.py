"""The study's champion in MLflow's registry: the model of the highest validation score."""

import json
from collections.abc import Mapping
from typing import Any

from pipeline.base import escape
from pipeline.tracking.provenance import experiment_name

CHAMPION = "champion"
SERVING = ("numpy", "pandas", "pillow", "safetensors", "timm", "torch")  # of a logged model


def _logged_model(client: Any, experiment: str, key: str) -> str | None:
    """The id of the model that the newest finished training of this key logged."""
    query = f"tags.`versus.key` = '{key}' and attributes.status = 'FINISHED'"
    runs = client.search_runs([experiment], query, order_by=["attributes.start_time DESC"])
    return next((model.model_id for run in runs if run.outputs for model in run.outputs.model_outputs), None)


def _about_champion(name: str, evaluation: Mapping[str, Any]) -> str:
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


def _takes_over(new: Mapping[str, str], present: Mapping[str, str]) -> bool:
    """Whether a model takes the place of the present champion; both by their versions' tags."""
    if not experiment_name():
        return True
    if new["versus.data"] != present.get("versus.data"):
        return False
    return float(new["val_macro_f1"]) > float(present["val_macro_f1"])
