"""images: test images on which models disagree, are surely wrong, or all right."""

import base64
from collections.abc import Sequence

from pipeline.report.pictures import lossless
from pipeline.report.results import Model

MISTAKE = 144  # pixels a side at most, twice as many as the page shows


def mistakes(models: Sequence[Model]) -> list[tuple[str, list[dict[str, str]]]]:
    """Each model's surest mistakes as evaluate left them: none of a data set whose images may not be passed on."""
    found = [(model.name, model.evaluations[0].get("mistakes", [])) for model in models]
    return [
        (name, [{**each, "src": lossless(base64.b64decode(each["png"]), MISTAKE)} for each in images])
        for name, images in found
        if images
    ]
