"""images: test images on which models disagree, are surely wrong, or all right."""

from pipeline.report.found import Found
from pipeline.report.pictures import lossy
from pipeline.report.section import Section


def section(found: Found) -> Section:
    return Section("Images", {"sheet": lossy(found.sheet) if found.sheet else ""})
