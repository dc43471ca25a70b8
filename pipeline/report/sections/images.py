"""images: test images on which models disagree, are surely wrong, or all right."""

from pipeline.report.found import Found
from pipeline.report.pictures import data_uri
from pipeline.report.section import Section


def section(found: Found) -> Section:
    return Section("Images", {"sheet": data_uri(found.sheet, "jpeg")})
