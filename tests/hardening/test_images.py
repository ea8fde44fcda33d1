"""Odd and hostile images: read right and said, or refused by name before any work; never misread."""

from __future__ import annotations

import io
import os
import shutil
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from genplug.errors import DataError
from genplug.imagefiles import ImageFiles
from genplug.readers import open_path
from genplug.samplesets import read_all

WIDTH, HEIGHT = 6, 4
GREY = np.arange(WIDTH * HEIGHT, dtype=np.uint8).reshape(HEIGHT, WIDTH) * 10
RGB = np.stack([GREY, 255 - GREY, GREY // 2], -1)


def saved(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def rgb() -> Image.Image:
    return Image.fromarray(RGB)


def grey() -> Image.Image:
    return Image.fromarray(GREY)


def with_alpha(image: Image.Image, alpha: int) -> Image.Image:
    image.putalpha(alpha)
    return image


def palette(transparent: int | None = None) -> bytes:
    options = {} if transparent is None else {"transparency": transparent}
    return saved(rgb().quantize(24), "PNG", **options)


def animation(kind: str, frames: int = 2) -> bytes:
    others = [Image.fromarray(RGB // (number + 2)) for number in range(frames - 1)]
    return saved(rgb(), kind, save_all=True, append_images=others)


def turned(kind: str, orientation: int = 6) -> bytes:
    """The image as a camera held sideways stores it: what is shown is the upright one."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(rgb().transpose(Image.Transpose.ROTATE_90), kind, exif=exif, quality=95, subsampling=0)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def raw_png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    header = struct.pack(">2I5B", width, height, depth, colour, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def deep_rgb_png() -> bytes:
    wide = RGB.astype(">u2") * 257
    return raw_png(WIDTH, HEIGHT, 16, 2, b"".join(b"\0" + row.tobytes() for row in wide))


def deep_ppm() -> bytes:
    return b"P6 6 4 65535\n" + (RGB.astype(">u2") * 257).tobytes()


def wide_tiff() -> bytes:
    """An uncompressed TIFF of 3 x 16 bits, which Pillow would cut to 8."""
    pixels = (RGB.astype("<u2") * 257).tobytes()
    tags = [(256, 3, 1, WIDTH), (257, 3, 1, HEIGHT), (258, 3, 3, 200), (259, 3, 1, 1), (262, 3, 1, 2)]
    tags += [(273, 4, 1, 208), (277, 3, 1, 3), (278, 3, 1, HEIGHT), (279, 4, 1, len(pixels))]
    table = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
    head = struct.pack("<2sHI", b"II", 42, 8) + table + struct.pack("<I", 0)
    return head.ljust(200, b"\0") + struct.pack("<4H", 16, 16, 16, 0) + pixels


READ = {
    "rgb png": (saved(rgb()), RGB),
    "interlaced and turned 0": (saved(rgb(), exif=Image.Exif()), RGB),
    "grey png": (saved(grey()), GREY),
    "1 bit": (saved(Image.fromarray(GREY > 99)), np.where(GREY > 99, 255, 0)),
    "palette": (palette(), RGB),
    "opaque alpha": (saved(with_alpha(rgb(), 255)), RGB),
    "opaque grey alpha": (saved(with_alpha(grey(), 255)), GREY),
    "colour key that no pixel has": (saved(rgb(), transparency=(1, 2, 3)), RGB),
    "bmp": (saved(rgb(), "BMP"), RGB),
    "ppm": (saved(rgb(), "PPM"), RGB),
    "lossless webp": (saved(rgb(), "WEBP", lossless=True), RGB),
    "gif of one frame": (saved(rgb().quantize(24), "GIF"), RGB),
    "tiff": (saved(rgb(), "TIFF"), RGB),
    "png turned by exif": (turned("PNG"), RGB),
    "png whose name is wrong": (saved(rgb(), "TIFF"), RGB),
}
REFUSED = {
    "empty": (b"", "empty file"),
    "text": (b"hello, world", "not an image"),
    "truncated png": (saved(rgb())[:-20], "truncated"),
    "damaged png": (saved(rgb()).replace(b"IDAT", b"IDAT\1", 1), "checksum"),
    "truncated jpeg": (saved(rgb().resize((64, 64)), "JPEG")[:-40], "truncated"),
    "truncated webp": (saved(rgb(), "WEBP")[:-8], "damaged"),
    "truncated bmp": (saved(rgb(), "BMP")[:-8], "truncated"),
    "transparent": (saved(with_alpha(rgb(), 254)), "transparent: put it on a background"),
    "transparent grey": (saved(with_alpha(grey(), 0)), "transparent"),
    "transparent palette": (palette(transparent=0), "transparent"),
    "colour key": (saved(rgb(), transparency=tuple(map(int, RGB[0, 0]))), "transparent"),
    "16 bit grey": (saved(Image.fromarray(GREY.astype(np.uint16) * 257)), "more than 8 bits per channel"),
    "16 bit rgb png": (deep_rgb_png(), "more than 8 bits"),
    "16 bit ppm": (deep_ppm(), "more than 8 bits"),
    "16 bit rgb tiff": (wide_tiff(), "more than 8 bits"),
    "32 bit tiff": (saved(Image.fromarray(GREY.astype(np.int32)), "TIFF"), "more than 8 bits"),
    "float tiff": (saved(Image.fromarray(GREY.astype(np.float32)), "TIFF"), "more than 8 bits"),
    "lab tiff": (saved(Image.new("LAB", (WIDTH, HEIGHT)), "TIFF"), "colours of mode LAB"),
    "animated gif": (animation("GIF"), "animated or of several pages"),
    "animated png": (animation("PNG"), "animated"),
    "animated webp": (animation("WEBP"), "animated"),
    "pages of a tiff": (animation("TIFF"), "several pages"),
    "bomb": (raw_png(60_000, 60_000, 8, 2, b""), "claims more than 33,554,432 pixels"),
    "small bomb": (raw_png(7_000, 7_000, 8, 2, b""), "claims 7000 x 7000 pixels, more than 33,554,432"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 6 4\n%%EOF\n", "not an image"),
}  # fmt: skip


@pytest.mark.parametrize("case", READ)
def test_what_is_read_is_read_right(tmp_path: Path, case: str) -> None:
    content, expected = READ[case]
    (tmp_path / "x.png").write_bytes(content)
    found = read_all(open_path(tmp_path))[0].permute(1, 2, 0).numpy()
    assert np.array_equal(found, expected.reshape(HEIGHT, WIDTH, -1))


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_read_right_is_refused_by_name(tmp_path: Path, case: str) -> None:
    content, words = REFUSED[case]
    (tmp_path / "good.png").write_bytes(saved(rgb()))
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(DataError, match="1 of 2 images cannot be read") as caught:
        open_path(tmp_path)
    assert words in str(caught.value).split("x.png (")[1]
    assert "\n" not in str(caught.value)
    assert len(open_path(tmp_path, skip_bad=True)) == 1


def test_a_grey_image_among_colour_is_read_as_colour_and_counted(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(saved(rgb()))
    (tmp_path / "b.png").write_bytes(saved(grey()))
    samples = ImageFiles(tmp_path)
    assert samples.shape == (3, HEIGHT, WIDTH)
    assert torch.equal(samples.read([1])[0], torch.from_numpy(GREY).expand(3, -1, -1))
    assert samples.notes == ["grey read as RGB, as others are in colour: 1 of 2 images"]


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_is_read_as_rgb_and_counted(tmp_path: Path, kind: str) -> None:
    """JPEGs hold CMYK the wrong way round, as Adobe writes it; either way the colours come out."""
    flat = Image.new("RGB", (16, 16), (250, 20, 30))
    (tmp_path / "x.jpg").write_bytes(saved(flat.convert("CMYK"), kind))
    samples = ImageFiles(tmp_path)
    assert (samples.read([0])[0].float().mean((1, 2)) - torch.tensor([250.0, 20, 30])).abs().max() < 6
    assert samples.notes == ["CMYK read as RGB without a colour profile: 1 of 1 images"]


def test_exif_rotation_is_applied_and_counted(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(turned("JPEG"))
    (tmp_path / "b.jpg").write_bytes(saved(rgb(), "JPEG", quality=95, subsampling=0))
    samples = ImageFiles(tmp_path)
    assert samples.shape == (3, HEIGHT, WIDTH)
    assert (samples.read([0])[0].float() - samples.read([1])[0]).abs().mean() < 10
    assert samples.notes == ["turned as their EXIF data say: 1 of 2 images"]


def test_mixed_sizes_name_two_files(tmp_path: Path) -> None:
    for name, size in {"a.png": (6, 4), "b.png": (6, 4), "c.png": (5, 4), "d.png": (4, 4)}.items():
        (tmp_path / name).write_bytes(saved(rgb().resize(size)))
    with pytest.raises(DataError, match=r"a\.png is 6 x 4, c\.png is 5 x 4 and 1 more; bring all"):
        open_path(tmp_path)


def link_nowhere(path: Path) -> None:
    path.symlink_to("gone.png")


def link_in_a_circle(path: Path) -> None:
    path.symlink_to(path.name)


ODD_FILES: dict[str, tuple[Callable[[Path], None], str]] = {
    "broken link": (link_nowhere, "link to a file that is not there"),
    "circle": (link_in_a_circle, "too many levels of symbolic links"),
    "pipe": (os.mkfifo, "not a file"),
    "endless file": (lambda path: os.truncate(_touched(path), 2**40), "more than 134,217,728"),
}


def _touched(path: Path) -> Path:
    path.touch()
    return path


@pytest.mark.parametrize("case", ODD_FILES)
def test_what_is_no_ordinary_file_is_refused_by_name(tmp_path: Path, case: str) -> None:
    make, words = ODD_FILES[case]
    (tmp_path / "good.png").write_bytes(saved(rgb()))
    make(tmp_path / "x.png")
    with pytest.raises(DataError, match=rf"x\.png \(.*{words}"):
        open_path(tmp_path)


def test_folders_are_looked_into_whatever_their_name_and_hidden_files_are_not(tmp_path: Path) -> None:
    for place in ("x.png/in.png", ".hidden/no.png", "__MACOSX/no.png", "x.png/._in.png"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_bytes(saved(rgb()))
    (tmp_path / "linked").symlink_to(tmp_path / "x.png")
    (tmp_path / "x.png" / "up").symlink_to(tmp_path)
    assert ImageFiles(tmp_path).files == ["linked/in.png", "x.png/in.png"]


def test_names_that_are_no_text_do_no_harm(tmp_path: Path) -> None:
    for name in (b"\xff.png", b"new\nline.png"):
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(saved(rgb()))
    assert len(open_path(tmp_path).fingerprint) == 64
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xfe.png")).write_bytes(b"")
    with pytest.raises(DataError, match=r"'\\udcfe\.png' \(empty file\)"):
        open_path(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0 and not shutil.which("setpriv"), reason="root may read anything")
def test_a_file_that_must_not_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(saved(rgb()))
    (tmp_path / "x.png").chmod(0)
    may_not = "--bounding-set=-dac_override,-dac_read_search"
    command = ["setpriv", may_not] if os.geteuid() == 0 else []
    command += [sys.executable, "-m", "genplug", "evaluate", "digits:train", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 2
    assert "x.png (permission denied); nothing is left" in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_image_that_changes_in_use_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(saved(rgb()))
    samples = open_path(tmp_path)
    for content, words in ((b"", "not an image"), (saved(rgb().resize((9, 9))), "changed while in use")):
        path.write_bytes(content)
        with pytest.raises(DataError, match=rf"x\.png .*{words}"):
            samples.read([0])


def test_a_crafted_png_whose_pixels_do_not_unpack_is_named_when_it_is_decoded(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(raw_png(WIDTH, HEIGHT, 8, 2, b"\0" * 20))
    samples = open_path(tmp_path)
    with pytest.raises(DataError, match=r"x\.png cannot be read: damaged"):
        samples.read([0])


def test_opening_five_thousand_images_is_quick(tmp_path: Path) -> None:
    content = saved(rgb())
    for number in range(5000):
        (tmp_path / f"{number}.png").write_bytes(content)
    start = time.monotonic()
    assert len(open_path(tmp_path)) == 5000
    assert time.monotonic() - start < 30
