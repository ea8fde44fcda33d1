"""One image file: read as it is, converted and said, or refused with a reason.

A look at an image reads its header and finds out whether the file is whole; only where that
cannot be told otherwise is it decoded. What the look accepts, `decode` reads later.
"""

from __future__ import annotations

import io
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from genplug.errors import DataError
from genplug.registry import one_line

PIXELS = 2**25  # 5,792 x 5,792
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM")  # not those that run other programs
CMYK = "CMYK read as RGB without a colour profile"
TURNED = "turned as their EXIF data say"

_GREY, _RGB = ("1", "L", "LA", "La"), ("RGB", "RGBA", "RGBa", "RGBX", "P", "PA", "YCbCr", "CMYK")
_ORIENTATION, _BITS_PER_SAMPLE = 0x0112, 0x0102  # tags of EXIF and TIFF
_PLAIN_CHUNKS = {
    b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"pHYs", b"tIME",
    b"bKGD", b"sBIT",
}  # fmt: skip


@dataclass(frozen=True)
class Look:
    """What reading an image will give: its shape CHW, and how that differs from what is stored."""

    shape: tuple[int, int, int]
    changes: tuple[str, ...] = ()


@contextmanager
def quiet() -> Iterator[None]:
    """Silence Pillow, except that an image of far too many pixels is an error; not per thread."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def look(content: bytes) -> Look:
    """Return what an image file holds; `DataError` says in a few words why it is not used."""
    if not content:
        raise DataError("empty file")
    with _opened(content) as image:
        _check(image)
        chunks = _chunks(content) if image.format == "PNG" else set()
        if not chunks and not (image.format in ("JPEG", "MPO") and content.endswith(b"\xff\xd9")):
            image.load()  # no other way to tell whether the file is whole
        if image.has_transparency_data and not _is_opaque(image):
            raise DataError("transparent: put it on a background")
        turned = 1 if chunks and chunks <= _PLAIN_CHUNKS else _orientation(image)
        width, height = image.size if turned < 5 else image.size[::-1]
        changes = ((CMYK,) if image.mode == "CMYK" else ()) + ((TURNED,) if turned > 1 else ())
        return Look((1 if image.mode in _GREY else 3, height, width), changes)


def decode(content: bytes) -> Tensor:
    """Return an image that was looked at as uint8 CHW, of 1 channel if it is grey, else 3."""
    with _opened(content) as image:
        image.load()
        upright = ImageOps.exif_transpose(image)
        if upright.has_transparency_data and upright.mode not in _GREY:
            upright = upright.convert("RGBA")  # the way from a palette with transparent entries
        array = np.array(upright.convert("L" if image.mode in _GREY else "RGB"))
    return torch.from_numpy(array if array.ndim == 3 else array[..., None]).permute(2, 0, 1).contiguous()


@contextmanager
def _opened(content: bytes) -> Iterator[Image.Image]:
    """Open an image and say in one line what is wrong with it; decoders raise anything."""
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            yield image
    except DataError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise DataError(f"claims more than {PIXELS:,} pixels") from None
    except UnidentifiedImageError:
        raise DataError("not an image") from None
    except MemoryError:
        raise
    except Exception as error:
        raise DataError(f"damaged: {one_line(error)[:80]}") from None


def _check(image: Image.Image) -> None:
    """Refuse what cannot become 8 bits of grey or RGB without a choice that is the user's."""
    width, height = image.size
    if width * height > PIXELS:
        raise DataError(f"claims {width} x {height} pixels, more than {PIXELS:,}")
    if image.format != "MPO" and getattr(image, "is_animated", False):
        raise DataError("animated or of several pages: store one image per file")
    if _is_deep(image):
        raise DataError("more than 8 bits per channel: scale it to 8")
    if image.mode not in _GREY + _RGB:
        raise DataError(f"colours of mode {image.mode}: convert them to RGB")


def _is_deep(image: Image.Image) -> bool:
    """Tell more than 8 bits per channel, which Pillow cuts to 8 for some formats without a word."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return True
    if image.format == "TIFF":
        bits = image.tag_v2.get(_BITS_PER_SAMPLE, 8)  # type: ignore[attr-defined]
        return bool(np.max(bits) > 8)
    details = [tile.args for tile in getattr(image, "tile", ())]
    if image.format == "PPM":  # (mode, largest value)
        return any(isinstance(args, tuple) and int(args[-1] or 0) > 255 for args in details)
    return image.format == "PNG" and any("16" in str(args) for args in details)


def _is_opaque(image: Image.Image) -> bool:
    low, _ = image.convert("RGBA").getchannel("A").getextrema()
    return low == 255


def _chunks(content: bytes) -> set[bytes]:
    """Return the kinds of chunks in a whole PNG, each checked by its CRC, without decoding it."""
    found: set[bytes] = set()
    at = 8
    while b"IEND" not in found:
        length, kind = int.from_bytes(content[at : at + 4]), content[at + 4 : at + 8]
        end = at + 8 + length
        if end + 4 > len(content):
            raise DataError("truncated")
        if zlib.crc32(memoryview(content)[at + 4 : end]) != int.from_bytes(content[end : end + 4]):
            raise DataError("damaged: a checksum does not fit")
        found.add(kind)
        at = end + 4
    return found


def _orientation(image: Image.Image) -> int:
    """Return EXIF's orientation, 1 to 8; Pillow decodes a PNG for it."""
    turned = image.getexif().get(_ORIENTATION, 1)
    return turned if isinstance(turned, int) and 1 <= turned <= 8 else 1
