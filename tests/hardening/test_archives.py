"""Hostile zips and arrays: bounded in memory and time, never unpickled, and one line that names the file."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import re
import stat
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from genplug.errors import DataError
from genplug.readers import open_path
from genplug.samplesets import read_all

PIXELS = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)


def png(value: int = 0) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS + np.uint8(value)).save(buffer, "PNG")
    return buffer.getvalue()


def zipped(path: Path, members: Iterable[tuple[str | zipfile.ZipInfo, bytes]], method: int = 8) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content, method)
    return path


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        open_path(path, **options)
    text = str(caught.value)
    assert path.name in text
    assert "\n" not in text
    assert len(text) < 700
    return text


def changed(path: Path, old: bytes, new: bytes) -> Path:
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))
    return path


@pytest.mark.parametrize(
    "name", ["../x.png", "a/../../x.png", "/x.png", "C:x.png", "c:/x.png", "..", "a\\..\\x.png"]
)
def test_names_that_lead_out_of_an_archive_are_refused(tmp_path: Path, name: str) -> None:
    path = zipped(tmp_path / "x.zip", [("good.png", png()), (name, png())])
    assert f"member {name!r} leads out of the archive" in refusal(path)
    assert [found.name for found in tmp_path.iterdir()] == ["x.zip"]


def test_a_backslash_is_no_folder(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.zip", [("a_b.png", png())])
    assert "leads out" in refusal(changed(path, b"a_b.png", b"a\\b.png"))


def test_control_characters_are_not_printed(tmp_path: Path) -> None:
    text = refusal(zipped(tmp_path / "x.zip", [("\x1b[2Jx.png", png())]))
    assert "'\\x1b[2Jx.png' has a name with control characters" in text


def test_a_link_in_an_archive_is_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("x.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    assert "member 'x.png' is a link" in refusal(zipped(tmp_path / "x.zip", [(link, b"/etc/passwd")]))


def test_two_members_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        path = zipped(tmp_path / "x.zip", [("x.png", png()), ("x.png", png(1))])
    assert "member 'x.png' is there twice" in refusal(path)


def test_an_encrypted_member_is_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.zip", [("x.png", png())])
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(content)
    assert "member 'x.png' is encrypted" in refusal(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_packing_that_is_not_bounded_is_refused(tmp_path: Path, method: int) -> None:
    path = zipped(tmp_path / "x.zip", [("x.png", png())], method)
    assert "packed by a method other than deflate" in refusal(path)


def test_a_zip_inside_a_zip_is_not_opened(tmp_path: Path) -> None:
    inner = zipped(tmp_path / "inner.zip", [("x.png", png())]).read_bytes()
    assert "holds no images" in refusal(zipped(tmp_path / "x.zip", [("inner.zip", inner)]))
    disguised = zipped(tmp_path / "y.zip", [("inner.png", inner)])
    assert "inner.png (not an image)" in refusal(disguised)


@pytest.mark.parametrize("content", [b"", b"PK", b"not a zip", b"PK\5\6" + b"\xff" * 18])
def test_what_is_no_zip_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.zip").write_bytes(content)
    assert "x.zip is not a readable zip" in refusal(tmp_path / "x.zip")


@pytest.mark.parametrize("seed", range(40))
def test_a_damaged_archive_is_refused_or_read_as_it_was(tmp_path: Path, seed: int) -> None:
    """Eight random bytes are changed, or the end is cut off."""
    random = np.random.default_rng(seed)
    path = zipped(tmp_path / "x.zip", [(f"{i}.png", png(i)) for i in range(3)])
    content = bytearray(path.read_bytes())
    for at in random.integers(0, len(content), 8):
        content[at] = random.integers(256)
    path.write_bytes(content if seed % 2 else content[: random.integers(len(content))])
    with contextlib.suppress(DataError):
        images = read_all(open_path(path)).permute(0, 2, 3, 1).numpy()
        assert all((image == PIXELS + i).all() for i, image in enumerate(images))


LABELS: dict[str, tuple[Any, str]] = {
    "no JSON": ("{", "not in NVlabs' layout"),
    "no text": (b"\xff\xfe\xff", "not in NVlabs' layout"),
    "deep": ("[" * 200_000, "not in NVlabs' layout"),
    "deep value": ('{"labels": ' + '{"a":' * 50_000, "not in NVlabs' layout"),
    "a list": ([], "not in NVlabs' layout"),
    "a number": (7, "not in NVlabs' layout"),
    "labels are text": ({"labels": "abc"}, "not in NVlabs' layout"),
    "labels are a number": ({"labels": 3}, "not in NVlabs' layout"),
    "no pairs": ({"labels": [["x.png"]]}, "not in NVlabs' layout"),
    "triples": ({"labels": [["x.png", 1, 2]]}, "not in NVlabs' layout"),
    "digits without end": ('{"labels": [["x.png", ' + "9" * 10_000 + "]]}", "not in NVlabs' layout"),
    "negative": ({"labels": [["x.png", -1]]}, "label -1 of 'x.png' is not a whole number from 0 to 999,999"),
    "NaN": ({"labels": [["x.png", float("nan")]]}, "label nan of 'x.png'"),
    "infinite": ({"labels": [["x.png", float("inf")]]}, "label inf"),
    "fraction": ({"labels": [["x.png", 1.5]]}, "label 1.5"),
    "truth": ({"labels": [["x.png", True]]}, "label True"),
    "text": ({"labels": [["x.png", "1"]]}, "label '1'"),
    "list": ({"labels": [["x.png", [[[1]]]]]}, "label list"),
    "huge": ({"labels": [["x.png", 10**30]]}, "is not a whole number"),
    "name is a number": ({"labels": [[1, 1]]}, "is not a whole number"),
    "name is a list": ({"labels": [[["x.png"], 1]]}, "is not a whole number"),
    "not there": ({"labels": [["x.png", 1], ["../y.png", 1]]}, "../y.png (dataset.json lists it, but"),
    "twice": ({"labels": [["x.png", 1], ["x.png", 2]]}, "two labels for x.png"),
    "missing": ({"labels": [["readme.txt", 1]]}, "no label for x.png"),
    "too long": (" " * 3_000_000 + "{}", "unpacks to 3,000,002 bytes"),
}


@pytest.mark.parametrize("case", LABELS)
def test_hostile_labels_are_refused(tmp_path: Path, case: str) -> None:
    value, words = LABELS[case]
    content = (
        value
        if isinstance(value, bytes)
        else (value if isinstance(value, str) else json.dumps(value)).encode()
    )
    members = [("dataset.json", content), ("x.png", png()), ("readme.txt", b"")]
    assert words in refusal(zipped(tmp_path / "x.zip", members))


@pytest.mark.parametrize("value", [{"labels": None}, {"labels": []}, {}])
def test_a_dataset_without_labels_has_none(tmp_path: Path, value: Any) -> None:
    members = [("dataset.json", json.dumps(value).encode()), ("a/x.png", png()), ("b/x.png", png())]
    assert open_path(zipped(tmp_path / "x.zip", members)).labels is None


class Command:
    """An object whose pickle runs a command."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.trace),)


def npy(header: str | dict[str, Any], content: bytes = b"", version: int = 1) -> bytes:
    text = (header if isinstance(header, str) else repr(header)).encode("latin1")
    length = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + length + text + content


def described(descr: Any, shape: Any, fortran: bool = False) -> dict[str, Any]:
    return {"descr": descr, "fortran_order": fortran, "shape": shape}


ARRAYS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "not a readable"),
    "text": (b"hello", "not a readable"),
    "no header": (b"\x93NUMPY\1\0", "not a readable"),
    "version 9": (npy(described("|u1", (1,)), version=9), "not a readable"),
    "10^15 elements": (npy(described("|u1", (10**15, 1, 1, 1))), "not "),
    "10^15 points": (npy(described("<f4", (10**8, 10**7))), "not "),
    "more than 64 bits": (npy(described("<f8", (2**62, 2**62))), "not "),
    "negative": (npy(described("<f4", (-1, 2))), "not a readable"),
    "truth as length": (npy(described("<f4", (True, 2)), b"\0" * 8), "not a readable"),
    "deep header": (npy("(" * 9000), "not a readable"),
    "minus without end": (npy("-" * 9000 + "1"), "not a readable"),
    "long header": (npy("[" + "1," * 30_000 + "]"), "not a readable"),
    "longest header": (b"\x93NUMPY\2\0\xff\xff\xff\xff{'descr': ", "not a readable"),
    "code": (npy("__import__('os').mkdir('owned')"), "not a readable"),
    "other keys": (npy({"descr": "<f4"}), "not a readable"),
    "objects": (npy(described("|O", (1,))), "pickle, which is never read"),
    "objects in fields": (npy(described([("a", "|O")], (1,))), "pickle, which is never read"),
    "fields": (npy(described([("a", "<f4")], (1,)), b"\0" * 4), "not numbers"),
    "text values": (npy(described("<U9", (1,)), b"\0" * 36), "not numbers"),
    "dates": (npy(described("<M8[s]", (1, 1)), b"\0" * 8), "not numbers"),
    "complex": (npy(described("<c8", (1, 1)), b"\0" * 8), "not numbers"),
    "truths": (npy(described("|b1", (1, 1)), b"\0"), "not numbers"),
    "three axes": (npy(described("|u1", (1, 1, 1)), b"\0"), "neither uint8 images"),
    "float images": (npy(described("<f4", (1, 1, 1, 3)), b"\0" * 12), "neither uint8 images"),
    "four channels": (npy(described("|u1", (1, 2, 2, 4)), b"\0" * 16), "neither uint8 images"),
    "no rows": (npy(described("|u1", (0, 2, 2, 3))), "is empty"),
    "no pixels": (npy(described("|u1", (2, 0, 2, 3))), "is empty"),
    "no columns": (npy(described("<f4", (2, 0))), "is empty"),
    "truncated": (npy(described("<f4", (2, 2)), b"\0" * 15), "not a readable"),
    "infinite as float32": (npy(described("<f8", (1, 1)), struct.pack("<d", 1e300)), "not finite"),
}  # fmt: skip


@pytest.mark.parametrize("place", ["npy", "stored", "deflated"])
@pytest.mark.parametrize("case", ARRAYS)
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_hostile_arrays_are_refused(tmp_path: Path, case: str, place: str) -> None:
    content, words = ARRAYS[case]
    path = tmp_path / ("x.npy" if place == "npy" else "x.npz")
    if place == "npy":
        path.write_bytes(content)
    else:
        zipped(path, [("arr_0.npy", content)], 0 if place == "stored" else 8)
    assert words in refusal(path)
    assert [found.name for found in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("name", ["x.npy", "x.npz"])
def test_pickles_are_never_run(tmp_path: Path, name: str) -> None:
    array = np.empty(1, dtype=object)
    array[0] = Command(tmp_path / "trace")
    (np.save if name == "x.npy" else np.savez)(tmp_path / name, array)
    assert "pickle, which is never read" in refusal(tmp_path / name)
    (tmp_path / name).write_bytes(pickle.dumps(Command(tmp_path / "trace")))
    assert "not a readable" in refusal(tmp_path / name)
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize("name", ["x.npy", "x.npz"])
def test_any_memory_layout_is_read_right(tmp_path: Path, name: str) -> None:
    images = np.stack([PIXELS, PIXELS + 1])
    for array in (np.asfortranarray(images), images.transpose(0, 3, 1, 2), images[::-1][::-1]):
        (np.save if name == "x.npy" else np.savez)(tmp_path / name, array)
        assert (read_all(open_path(tmp_path / name)).permute(0, 2, 3, 1).numpy() == images).all()
    np.savez_compressed(tmp_path / "x.npz", np.asfortranarray(images))
    assert (read_all(open_path(tmp_path / "x.npz")).permute(0, 2, 3, 1).numpy() == images).all()
    points = np.array([[1, 2], [3, 4], [5, 6]])
    for kind in (">f8", "<f2", ">i2", "F"):
        array = np.asfortranarray(points, np.float32) if kind == "F" else points.astype(kind)
        (np.save if name == "x.npy" else np.savez)(tmp_path / name, array)
        assert (read_all(open_path(tmp_path / name)).numpy() == points).all()


WRONG_LABELS = {
    "negative": (np.array([-1]), "labels from -1 to -1 are not within"),
    "too large": (np.array([2**63], np.uint64), "not within 0 to 999,999"),
    "fractions": (np.array([0.5]), "not one whole number per sample"),
    "one-hot": (np.array([[0, 1]]), "not one whole number per sample"),
    "too many": (np.array([1, 2]), "1 samples but 2 labels"),
    "objects": (np.array([None]), "pickle"),
}


@pytest.mark.parametrize("case", WRONG_LABELS)
def test_wrong_labels_of_an_archive_are_refused(tmp_path: Path, case: str) -> None:
    labels, words = WRONG_LABELS[case]
    np.savez(tmp_path / "x.npz", PIXELS[None], labels)
    assert words in refusal(tmp_path / "x.npz")


def test_labels_of_any_integer_type_are_read(tmp_path: Path) -> None:
    for kind in ("u1", ">u2", ">i8", "<u8"):
        np.savez(tmp_path / "x.npz", PIXELS[None], np.array([7], kind))
        labels = open_path(tmp_path / "x.npz").labels
        assert labels is not None
        assert labels.tolist() == [7]


def test_arrays_of_an_archive_are_not_guessed(tmp_path: Path) -> None:
    """Statistics of reference batches are archives too, and no samples."""
    np.savez(tmp_path / "x.npz", mu=np.zeros(4), sigma=np.eye(4))
    assert "it holds mu, sigma; samples belong in arr_0" in refusal(tmp_path / "x.npz")
    np.savez(tmp_path / "y.npz", images=PIXELS[None])
    assert len(open_path(tmp_path / "y.npz")) == 1


def zeros(size: int) -> bytes:
    """Return that many zeros, deflated."""
    packer = zlib.compressobj(1, zlib.DEFLATED, -15)
    return b"".join(packer.compress(bytes(2**20)) for _ in range(size >> 20)) + packer.flush()


def entry(name: str, packed: int, says: int, start: int = 0) -> bytes:
    info = (20, 20, 0, 8, 0, 0, 0, packed, says, len(name), 0, 0, 0, 0, 0, start)
    return b"PK\1\2" + struct.pack("<6H3I5H2I", *info) + name.encode()


def bomb(path: Path, name: str, packed: bytes, says: int) -> Path:
    """Write an archive with one member that says how long it is."""
    local = (
        b"PK\3\4" + struct.pack("<5H3I2H", 20, 0, 8, 0, 0, 0, len(packed), says, len(name), 0) + name.encode()
    )
    listing = entry(name, len(packed), says)
    end = b"PK\5\6" + struct.pack("<4H2IH", 0, 0, 1, 1, len(listing), len(local) + len(packed), 0)
    path.write_bytes(local + packed + listing + end)
    return path


def crowd(path: Path, count: int) -> Path:
    """Write an archive that lists millions of members and holds none."""
    listing = entry("x.png", 0, 0)
    size = len(listing) * count
    end64 = b"PK\6\6" + struct.pack("<Q2H2I4Q", 44, 45, 45, 0, 0, count, count, size, 0)
    locator = b"PK\6\7" + struct.pack("<IQI", 0, size, 1)
    end = b"PK\5\6" + struct.pack("<4H2IH", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    path.write_bytes(listing * count + end64 + locator + end)
    return path


BOMBS = {
    "declared.zip": ("x.png", 2**31, "unpacks to 2,147,483,648 bytes, more than 134,217,728"),
    "undeclared.zip": ("x.png", 100, r"x\.png \(damaged: .*Bad CRC-32"),
    "of-no-length.zip": ("x.png", 0, r"x\.png \((damaged|empty)"),
    "labels.zip": ("dataset.json", 2**31, "holds no images"),
    "array.npz": ("arr_0.npy", 2**31, "not a readable npz"),
    "undeclared.npz": ("arr_0.npy", 10_000, "not a readable npz"),
}
HEADERS = {
    "allocates.npz": (described("|u1", (2**32 - 1 - 128, 1, 1, 1)), "not a readable npz"),
    "allocates.npy": (described("|u1", (2**40, 1, 1, 3)), "truncated: the header says"),
}

BOUNDED = """
import re, resource, sys, time
import torch
from pathlib import Path
from genplug.readers import open_path
used = int(re.search(r"VmSize:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
resource.setrlimit(resource.RLIMIT_AS, (used + 2**30, used + 2**30))
for path in map(Path, sys.argv[1:]):
    start = time.monotonic()
    try:
        open_path(path)
    except Exception as error:
        print(path.name, f"{time.monotonic() - start:.0f}", type(error).__name__, error)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc and RLIMIT_AS")
@pytest.mark.slow
def test_bombs_are_refused_with_a_gigabyte_of_memory(tmp_path: Path) -> None:
    """Each unpacks to two gigabytes, whatever it says; one lists four million members."""
    packed, expected = zeros(2**31), {"crowd.zip": "its list of files is longer than 134,217,728"}
    crowd(tmp_path / "crowd.zip", 4_000_000)
    for file, (name, says, words) in BOMBS.items():
        bomb(tmp_path / file, name, packed, says)
        expected[file] = words
    for file, (header, words) in HEADERS.items():
        content, expected[file] = npy(header), words
        if file.endswith("npy"):
            (tmp_path / file).write_bytes(content)
        else:
            size = len(content) + 2**32 - 129
            bomb(tmp_path / file, "arr_0.npy", zlib.compress(content, wbits=-15), size)
    command = [sys.executable, "-c", BOUNDED, *(str(tmp_path / file) for file in expected)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    lines = {line.split()[0]: line.split(maxsplit=2)[1:] for line in done.stdout.splitlines()}
    assert lines.keys() == expected.keys()
    for file, (seconds, text) in lines.items():
        assert text.startswith("DataError "), text
        assert re.search(expected[file], text), text
        assert float(seconds) < 60
    assert done.stderr == ""


def test_large_compressed_arrays_are_refused_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("genplug.arrays.INFLATED_BYTES", 47)
    np.savez_compressed(tmp_path / "x.npz", PIXELS[None])
    assert "must be stored uncompressed (numpy.savez)" in refusal(tmp_path / "x.npz")
    np.savez(tmp_path / "y.npz", PIXELS[None])
    assert len(open_path(tmp_path / "y.npz")) == 1
