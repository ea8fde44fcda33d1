"""Files that want more than to be read. Each writer returns what its file must be refused with."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from pathlib import Path

MAGIC = pickle.dumps(0x1950A86A20F9469CFC6C, 2)
HEAD = MAGIC + pickle.dumps(1001, 2) + pickle.dumps({"little_endian": True}, 2)


def named(module: str, name: str) -> bytes:
    return b"c" + f"{module}\n{name}\n".encode()


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def called(module: str, name: str, argument: str) -> bytes:
    """Protocol 2 of `module.name(argument)`."""
    return b"\x80\x02" + named(module, name) + text(argument) + b"\x85R."


def archive(data: bytes, records: dict[str, bytes] | None = None, compression: int = 0) -> bytes:
    """A zip as torch writes it around a `data.pkl`."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        for name, content in {"x/data.pkl": data, "x/version": b"3\n", **(records or {})}.items():
            file.writestr(name, content)
    return buffer.getvalue()


def storage(kind: bytes, numel: bytes) -> bytes:
    """The persistent id of storage `0`."""
    return b"(" + text("storage") + b"ctorch\n" + kind + b"\n" + text("0") + text("cpu") + numel + b"tQ"


def tensor(offset: int, size: list[int], stride: list[int], numel: int) -> bytes:
    """A state dict with one tensor over storage `0`, as data.pkl."""

    def long(value: int) -> bytes:
        return b"\x8a\x08" + struct.pack("<q", value)

    def numbers(values: list[int]) -> bytes:
        return b"(" + b"".join(map(long, values)) + b"t"

    build = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage(b"FloatStorage", long(numel)) + long(offset)
    build += numbers(size) + numbers(stride) + b"\x89ccollections\nOrderedDict\n)RtR"
    return b"\x80\x02}" + text("w") + build + b"s."


def cases(canary: Path) -> dict[str, tuple[bytes, str]]:
    """Every hostile file by name, with a part of the message that refuses it.

    Those that execute something would make the file `canary`.
    """
    touch, code = f"touch {canary}", f"open({str(canary)!r}, 'w')"
    system = called("os", "system", touch)
    chain = named("builtins", "getattr") + named("os", "path") + text("join") + b"\x86R."
    nested = b"\x80\x02" + named("collections", "OrderedDict") + b")R" + text(touch) + b"\x85R."
    held = b"\x80\x02" + named("argparse", "Namespace") + b")\x81"
    source = "torch_utils.persistence", "_reconstruct_persistent_obj"
    stored = b"\x80\x04" + named("torch.storage", "_load_from_bytes")
    class_source = {"type": "class", "version": 6, "module_src": code, "class_name": "Net", "state": {}}
    return {
        "os.system by GLOBAL and REDUCE": (system, "names 'os.system'"),
        "posix.system": (called("posix", "system", touch), "names 'posix.system'"),
        "builtins.eval": (called("builtins", "eval", code), "names 'builtins.eval'"),
        "builtins.exec": (called("builtins", "exec", code), "names 'builtins.exec'"),
        "eval by its old name": (called("__builtin__", "eval", code), "names '__builtin__.eval'"),
        "a chain of getattr": (b"\x80\x02" + chain, "names 'builtins.getattr'"),
        "a name with dots": (b"\x80\x04\x8c\x05torch\x8c\x10_utils.os.system\x93.", "names 'torch._utils.os"),
        "a name from the memo": (
            b"\x80\x04\x8c\x02os\x94\x8c\x06system\x940\x30h\x00h\x01\x93" + text(touch) + b"\x85R.",
            "names 'os.system'",
        ),
        "a call of a result": (nested, "calls a value that is no name"),
        "a call of a tuple": (b"\x80\x02)" + text(touch) + b"\x85R.", "calls a value that is no name"),
        "a call of a known name that is only named": (
            b"\x80\x02" + named("numpy", "ndarray") + text(touch) + b"\x85R.",
            "calls 'numpy.ndarray'",
        ),
        "INST": (b"(S'" + touch.encode() + b"'\nios\nsystem\n.", "names 'os.system'"),
        "OBJ": (
            b"\x80\x02(" + named("subprocess", "Popen") + text(touch) + b"o.",
            "names 'subprocess.Popen'",
        ),
        "NEWOBJ of a foreign class": (
            b"\x80\x02" + named("subprocess", "Popen") + text(touch) + b"\x85\x81.",
            "names 'subprocess.Popen'",
        ),
        "NEWOBJ_EX with keywords": (
            held[:-2] + b")}" + text("a") + text("b") + b"s\x92.",
            "makes an object from keywords",
        ),
        "BUILD with slots": (held + b"N}" + text("x") + text("y") + b"s\x86b.", "sets the state"),
        "BUILD of a list": (b"\x80\x02]}b.", "sets the state of a plain value"),
        "BUILD with __setstate__": (
            held + b"}" + text("__setstate__") + named("os", "system") + b"sb" + text(touch) + b"b.",
            "names 'os.system'",
        ),
        "EXT1": (b"\x80\x02\x82\x01.", "opcode 0x82"),
        "EXT2": (b"\x80\x02\x83\x01\x00.", "opcode 0x83"),
        "EXT4": (b"\x80\x02\x84\x01\x00\x00\x00.", "opcode 0x84"),
        "PERSID": (b"\x80\x00Pname\n.", "opcode 0x50"),
        "BINPERSID in a plain pickle": (b"\x80\x02K\x01Q.", "refers to something outside itself"),
        "a persistent id of another kind": (archive(b"\x80\x02" + text(touch) + b"Q."), "no storage"),
        "a torch zip with a hostile pickle": (archive(system), "names 'os.system'"),
        "a torch stream with a hostile pickle": (HEAD + system, "names 'os.system'"),
        "a hostile stream in _load_from_bytes": (
            stored + b"B" + struct.pack("<I", len(HEAD + system)) + HEAD + system + b"\x85R.",
            "names 'os.system'",
        ),
        "a stream in a stream": (
            stored
            + b"B"
            + struct.pack("<I", len(MAGIC + stored) + 1)
            + HEAD[: len(MAGIC)]
            + stored
            + b".\x85R.",
            "names 'torch.storage._load_from_bytes'",
        ),
        "class source to be executed": (
            b"\x80\x02" + named(*source) + pickle.dumps(class_source, 2)[2:-1] + b"\x85R.",
            "no tensors by name and no network",
        ),
        **huge(),
        **archives(touch),
    }


def huge() -> dict[str, tuple[bytes, str]]:
    """Small files that announce or grow into something huge, and streams without an end."""
    long_size = struct.pack("<Q", 1 << 62)
    doubling = b"\x80\x02]q\x00" + b"".join(b"(h%ch%cl\x94" % (n, n) for n in range(60)) + b"."
    tuples = b"\x80\x02)\x94" + b"".join(b"h%ch%c\x86\x94" % (n, n) for n in range(60))
    cycle = b"\x80\x02}q\x00" + text("a") + b"h\x00sh\x00."
    return {
        "text of 2**62 bytes": (b"\x80\x04\x8d" + long_size, "announces"),
        "bytes of 2**62 bytes": (b"\x80\x04\x8e" + long_size, "announces"),
        "a bytearray of 2**62 bytes": (b"\x80\x05\x96" + long_size, "announces"),
        "an integer of 2**31 bytes": (b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1), "an integer of"),
        "an integer of a million digits": (b"\x80\x00I" + b"9" * 10**6 + b"\n.", "no line end"),
        "a frame of 2**62 bytes": (b"\x80\x04\x95" + long_size + b"N.", "a frame of"),
        "the last place of the memo": (b"\x80\x02Nr\xff\xff\xff\xff.", "no tensors by name"),
        "a place of the memo that is empty": (b"\x80\x02j\xff\xff\xff\xff.", "that is not there"),
        "lists that double": (doubling, "no tensors by name"),
        "a key of doubling tuples": (tuples + b"}h%cNs." % 59, "no short scalar"),
        "a dictionary in itself": (cycle, "no tensors by name"),
        "half a million nested lists": (
            b"\x80\x02" + b"]" * 500_000 + b"a" * 499_999 + b".",
            "no tensors by name",
        ),
        "half a million nested tuples": (b"\x80\x02)" + b"\x85" * 500_000 + b".", "no tensors by name"),
        "keys that collide": (
            b"\x80\x02}("
            + b"".join(b"\x8a\x0a" + ((2**61 - 1) * n).to_bytes(10, "little") + b"N" for n in range(5, 9))
            + b"u.",
            "no short scalar",
        ),
        "opcodes without end": (b"\x80\x02" + b"N0" * 3_000_000, "more than 2000000 pickle opcodes"),
        "sets without end": (b"\x80\x04" + b"\x8f" * 4_000_000, "more than 2000000 pickle opcodes"),
        "marks without end": (b"\x80\x02" + b"(" * 4_000_000, "more than 2000000 pickle opcodes"),
        "no STOP": (b"\x80\x02N", "announces 1 bytes"),
        **copies(),
    }


def copies() -> dict[str, tuple[bytes, str]]:
    """One large container that is copied again and again, and one number of many bytes."""
    names = [b"X" + struct.pack("<I", 5) + b"%05x" % n for n in range(100_000)]
    again = b"h\x00h\x01\x85R" * 100_000
    keyed = b"".join(name + b"N" for name in names)
    number = b"\x80\x04cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\n(" + text("u1") + b"\x89\x88tR"
    return {
        "a list that becomes many dictionaries": (
            b"\x80\x02ccollections\nOrderedDict\nq\x000]q\x01("
            + b"".join(name + b"N\x86" for name in names)
            + b"e0]("
            + again
            + b"e.",
            "copies more than 2000000 members",
        ),
        "a list that becomes many sets": (
            b"\x80\x02c__builtin__\nset\nq\x000]q\x01(" + b"".join(names) + b"e0](" + again + b"e.",
            "copies more than 2000000 members",
        ),
        "a state that is set again and again": (
            b"\x80\x02cargparse\nNamespace\nq\x000}q\x01("
            + keyed
            + b"u0h\x00)\x81"
            + b"h\x01b" * 100_000
            + b".",
            "copies more than 2000000 members",
        ),
        "a number of eight million bytes": (
            number + b"B" + struct.pack("<I", 8 << 20) + bytes(8 << 20) + b"\x86R.",
            "unusual arguments",
        ),
    }


def archives(touch: str) -> dict[str, tuple[bytes, str]]:
    """Torch archives whose records or tensors are not what they claim."""
    bomb = archive(tensor(0, [4], [1], 4), {"x/data/0": bytes(50_000_000)}, zipfile.ZIP_DEFLATED)
    one = {"x/data/0": struct.pack("<4f", 1, 2, 3, 4)}
    code = {"x/code/net.py": touch.encode(), "x/constants.pkl": b"\x80\x02)."}
    plain = archive(tensor(0, [4], [1], 4), one)
    beyond = plain.replace(struct.pack("<2L", 16, 16), struct.pack("<2L", 1 << 31, 1 << 31))
    return {
        "a zip bomb": (bomb, "is compressed"),
        "a record outside the folder": (archive(b"N.", {"../../etc/x": b"x"}), "not below one folder"),
        "an absolute record": (archive(b"N.", {"/etc/x": b"x"}), "not below one folder"),
        "a record that climbs out": (archive(b"N.", {"x/../../y": b"x"}), "not below one folder"),
        "two roots": (archive(b"N.", {"y/data.pkl": b"N."}), "not below one folder"),
        "a record longer than the file": (beyond, "not where the directory says"),
        "an archive of code": (archive(b"\x80\x02N.", code), "TorchScript"),
        "a missing storage": (archive(tensor(0, [4], [1], 4)), "has no storage '0'"),
        "a storage of 10**15 elements": (archive(tensor(0, [4], [1], 10**15), one), "claims more elements"),
        "a tensor expanded to 10**12": (
            archive(tensor(0, [10**12], [0], 4), one),
            "claim 4000000000000 bytes",
        ),
        "a small expanded tensor": (archive(tensor(0, [1000], [0], 4), one), "expands 4 elements to 1000"),
        "a tensor beyond its storage": (archive(tensor(2, [4], [1], 4), one), "reaches element 5"),
        "a vast empty tensor": (archive(tensor(0, [0, 2**62], [1, 1], 4), one), "is empty but vast"),
        "a tensor before its storage": (archive(tensor(-4, [4], [1], 4), one), "unusual arguments"),
        "a negative stride": (archive(tensor(0, [4], [-1], 4), one), "unusual arguments"),
        "big-endian numbers": (archive(tensor(0, [4], [1], 4), {**one, "x/byteorder": b"big"}), "big-endian"),
    }


def write(folder: Path, canary: Path) -> dict[str, str]:
    """Write every case as a file; return the expected message by file name."""
    expected = {}
    for number, (content, message) in enumerate(cases(canary).values()):
        (folder / f"{number:02}.bin").write_bytes(content)
        expected[f"{number:02}.bin"] = message
    return expected
