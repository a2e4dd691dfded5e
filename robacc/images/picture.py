"""Decode one image file, which may be broken or made to do harm."""

import io
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps


class UnreadableError(ValueError):
    """The content of a file is no image that can be used. The message says why, without the file's name."""


def header(content: bytes | Path) -> tuple[str, tuple[int, int]]:
    """Return PIL's mode of an image, and its width and height.

    Raises UnreadableError for what is no image, and OSError if there is no such file.
    """
    source = content if isinstance(content, Path) else io.BytesIO(content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(source) as image:
                return image.mode, image.size
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise UnreadableError(f"more than {Image.MAX_IMAGE_PIXELS:,} pixels") from None
    except (FileNotFoundError, PermissionError):
        raise
    except Exception as error:  # decoders raise many types of error for a broken file
        raise UnreadableError("a broken file") from error


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):  # PIL would cut values above 255 off
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:  # PIL would show what a transparent pixel hides
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return image if image.mode == "RGB" else image.convert("RGB")


def rgb(
    content: bytes | Path, *, exact: int | None = None, at_least: int | None = None, upright: bool = False
) -> Image.Image:
    """Return an image in RGB; ImageNet also has grey files, CMYK files and a PNG.

    What is transparent becomes white, and 16 bits become 8. An image of other than `exact` x `exact` pixels is refused.
    A large JPEG is decoded at a half, quarter or eighth of its size, with no side below `at_least`. An `upright` image
    is turned as its camera says. Raises UnreadableError, and OSError if there is no such file.
    """
    raw = content.read_bytes() if isinstance(content, Path) else content
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(raw))
        size = image.size
        if exact is None or size == (exact, exact):
            if at_least:
                image.draft("RGB", (at_least, at_least))
            image.load()
            return _as_rgb(ImageOps.exif_transpose(image) if upright else image)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise UnreadableError(f"more than {Image.MAX_IMAGE_PIXELS:,} pixels") from None
    except Exception as error:  # decoders raise many types of error for a broken file
        raise UnreadableError("a broken file") from error
    raise UnreadableError(f"expected {exact} x {exact} pixels, got {size[0]} x {size[1]}")
