"""Decode one image file, which may be broken or made to do harm."""

import io
import warnings
from pathlib import Path

from PIL import Image


class UnreadableError(ValueError):
    """The content of a file is no image that can be used. The message says why, without the file's name."""


def rgb(content: bytes | Path, *, exact: int | None = None, at_least: int | None = None) -> Image.Image:
    """Return an image in RGB; ImageNet also has grey files, CMYK files and a PNG.

    An image of other than `exact` x `exact` pixels is refused. A large JPEG is decoded at a half, quarter or eighth of
    its size, with no side below `at_least`. Raises UnreadableError, and OSError if there is no such file.
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
            return image if image.mode == "RGB" else image.convert("RGB")
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise UnreadableError(f"more than {Image.MAX_IMAGE_PIXELS:,} pixels") from None
    except Exception as error:  # decoders raise many types of error for a broken file
        raise UnreadableError("a broken file") from error
    raise UnreadableError(f"expected {exact} x {exact} pixels, got {size[0]} x {size[1]}")
