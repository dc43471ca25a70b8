"""The one place that opens image files: from memory, of the formats below and no other, the first frame.

Left to itself, Pillow tries every format that it knows, whatever a file is called, and hands PostScript to Ghostscript,
which runs it.
"""

import io
import struct
from importlib.util import find_spec

from PIL import Image, ImageFile, UnidentifiedImageError

from pipeline.base.errors import StageError

FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")  # as Pillow calls them
HEIF = (".heic", ".heif", ".hif")
SUFFIXES = (
    *(".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".mpo", ".pbm", ".pgm", ".png", ".pnm"),
    *(".ppm", ".tif", ".tiff", ".webp", *HEIF),
)
MOST_BYTES = 1 << 29  # of a file; the most pixels, uncompressed and in colour with 16 bits, take as many
MOST_PIXELS = 89_478_485  # Pillow's own threshold for a decompression bomb
MOST_SCANS = 100  # of a JPEG; a progressive one has about ten, and each costs a pass over all pixels
SCANS = tuple(bytes((0xFF, 0xDA, 0, 6 + 2 * n, n)) for n in (1, 2, 3, 4))  # how a scan of n channels begins


PLAIN_SEGMENTS = {0xE0, 0xDB, 0xC4, 0xDD, 0xFE}  # of a JPEG: JFIF, both kinds of tables, restarts, comments
FRAMES, SCAN = {0xC0, 0xC1, 0xC2}, 0xDA  # baseline, extended and progressive; where the header ends
PLAIN_MODES = {1: "L", 3: "RGB"}  # by the number of channels


def opened(content: bytes, name: str, formats: tuple[str, ...] = FORMATS) -> ImageFile.ImageFile:
    """The image in a file's content, its pixels not yet read; raises StageError for what is none, or too large.

    Name fewer `formats` for what a Pillow that lacks some of them must read; HEIC is read beside all of them alone.
    """
    if len(content) > MOST_BYTES:
        raise StageError(f"{name}: larger than {MOST_BYTES >> 20} MiB, which no image to compare should be")
    if content.startswith(b"\xff\xd8") and _has_many_scans(content):
        raise StageError(f"{name}: a JPEG of more than {MOST_SCANS} scans; save the image anew")
    if formats == FORMATS and _is_heif(content):
        formats = _with_heif(name)
    try:
        image = Image.open(io.BytesIO(content), formats=formats)
    except UnidentifiedImageError:
        read = ", ".join(formats)
        raise StageError(
            f"{name}: unreadable or truncated image (read are {read}, of 8 or 16 bits; save it as PNG or JPEG)"
        ) from None
    except Image.DecompressionBombError:
        raise StageError(f"{name}: more than {MOST_PIXELS:,} pixels are too many for an image to compare") from None
    except Exception as error:  # Pillow's plugins raise whatever comes along
        raise StageError(f"{name}: unreadable or truncated image ({error})") from None
    if image.width * image.height > MOST_PIXELS:
        image.close()
        raise StageError(f"{name}: {image.width} x {image.height} pixels are too many for an image to compare")
    return image


def plain_jpeg(content: bytes) -> Image.Image | None:
    """A JPEG whose file says nothing but its picture, decoded; None for any other file, and for what is damaged.

    Pillow's decoder reads it as it does for `opened`, to the same pixels; its header is read here, which takes a small
    image half the time. With EXIF, a colour profile or Adobe's marker in it a file is none of these.
    """
    try:
        size, mode = _plain_header(content)
        return Image.frombytes(mode, size, content, "jpeg", mode, "")
    except (ValueError, LookupError, struct.error, OSError):
        return None


def _plain_header(content: bytes) -> tuple[tuple[int, int], str]:
    """Width and height, and the mode; raises ValueError, LookupError or struct.error where it is no plain JPEG's."""
    if content[:2] != b"\xff\xd8" or len(content) > MOST_BYTES or _has_many_scans(content):
        raise ValueError("no JPEG that is read")
    frames, place = [], 2
    while True:
        start, marker, length = struct.unpack_from(">BBH", content, place)
        if start != 0xFF or length < 2 or marker not in PLAIN_SEGMENTS | FRAMES | {SCAN}:
            raise ValueError("no plain JPEG")
        if marker in FRAMES:
            frames.append((length, *struct.unpack_from(">BHHB", content, place + 4)))
        if marker == SCAN:
            break
        place += 2 + length
    [(length, bits, height, width, channels)] = frames
    if bits != 8 or length != 8 + 3 * channels or not 0 < width * height <= MOST_PIXELS:
        raise ValueError("another depth, length or size")
    return (width, height), PLAIN_MODES[channels]


def _has_many_scans(content: bytes) -> bool:
    return content.count(b"\xff\xda") > MOST_SCANS and sum(map(content.count, SCANS)) > MOST_SCANS


def lacks_decoder(path: str) -> bool:
    """Whether a file of this name can only be read once pillow-heif is installed."""
    return path.lower().endswith(HEIF) and find_spec("pillow_heif") is None


def heif_remedy(name: str) -> StageError:
    return StageError(f"{name}: HEIC needs a decoder: `pip install pillow-heif`, or save the image as JPEG or PNG")


def _is_heif(content: bytes) -> bool:
    return content[4:8] == b"ftyp" and content[8:12] in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx")


def _with_heif(name: str) -> tuple[str, ...]:
    """The formats once Pillow reads HEIC by pillow-heif, which is no dependency of ours; raises StageError without."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        raise heif_remedy(name) from None
    register_heif_opener()
    return (*FORMATS, "HEIF")
