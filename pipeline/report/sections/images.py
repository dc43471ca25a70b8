"""images: test images on which models disagree, are surely wrong, or all right."""

from pipeline.report.found import Found
from pipeline.report.pictures import lossy
from pipeline.report.section import Section


def section(found: Found) -> Section:
    return Section("Images", {"sheet": lossy(found.sheet) if found.sheet else "", "names": names(found)})


def names(found: Found) -> dict[int, str]:
    """The test images' names, by their rows, of the replicate that is looked at; empty where predictions have none."""
    own = found.first.own_images
    return {row: str(name) for row, name in enumerate(found.first.images if own is None else own[0])}
