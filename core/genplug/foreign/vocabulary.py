"""The names that weight files may use, and the inert value that each of them makes.

This is the complete list. What is neither here nor in `genplug.foreign.storages` is refused by
name. Adding a line means: a call of that name with these arguments is only data.
"""

from __future__ import annotations

import itertools
import math
import operator
import struct
from collections.abc import Callable
from typing import Any

from genplug.foreign.machine import Builder, Reading, Vocabulary
from genplug.foreign.values import Array, Dtype, Global, Holder, Storage, StoredTensor, shown, whole_numbers

#: numpy's kind and size -> the code of `struct`.
NUMBERS = {
    "b1": "?",
    "i1": "b",
    "u1": "B",
    "i2": "h",
    "u2": "H",
    "i4": "i",
    "u4": "I",
    "i8": "q",
    "u8": "Q",
    "f2": "e",
    "f4": "f",
    "f8": "d",
}

LONGEST_SCALAR = 16  # bytes

#: numpy's kind and size -> torch's name, for the arrays that become tensors.
ARRAYS = {
    "f8": "float64",
    "f4": "float32",
    "f2": "float16",
    "i8": "int64",
    "i4": "int32",
    "i2": "int16",
    "i1": "int8",
    "u1": "uint8",
    "b1": "bool",
}

#: Bytes per element of the storages that torch writes, and the type of the elements.
STORAGES = {
    "torch.DoubleStorage": ("float64", 8),
    "torch.FloatStorage": ("float32", 4),
    "torch.HalfStorage": ("float16", 2),
    "torch.BFloat16Storage": ("bfloat16", 2),
    "torch.LongStorage": ("int64", 8),
    "torch.IntStorage": ("int32", 4),
    "torch.ShortStorage": ("int16", 2),
    "torch.CharStorage": ("int8", 1),
    "torch.ByteStorage": ("uint8", 1),
    "torch.BoolStorage": ("bool", 1),
}

#: Classes whose objects are kept as a name and a state.
HELD = (
    "argparse.Namespace",
    "torch.nn.modules.container.ModuleDict",
    "torch.nn.modules.container.ModuleList",
    "torch.nn.modules.container.Sequential",
    "torch.nn.modules.container.ParameterDict",
    "torch.nn.modules.container.ParameterList",
)

#: Dictionaries of other names.
DICTIONARIES = (
    "collections.OrderedDict",
    "dnnlib.util.EasyDict",
    "lightning_fabric.utilities.data.AttributeDict",
    "pytorch_lightning.utilities.parsing.AttributeDict",
)

#: Dictionaries of Haiku, and states of optimisers, in checkpoints of BYOL.
MAPPINGS = ("haiku._src.data_structures.frozendict", "haiku._src.data_structures.FlatMapping")
NAMED_TUPLES = (
    "byol.utils.optimizers.AddWeightDecayState",
    "byol.utils.optimizers.LarsState",
    "byol.utils.optimizers.ScaleByLarsState",
    "optax._src.transform.ScaleByScheduleState",
    "optax._src.transform.ScaleState",
)

#: Names that occur as values and are never called. Lightning keys its callbacks by class.
NAMES = (
    *STORAGES,
    *(f"torch.{dtype}" for dtype, _ in STORAGES.values()),
    "numpy.ndarray",
    "pytorch_lightning.callbacks.early_stopping.EarlyStopping",
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
)


def _dictionary(reading: Reading, arguments: tuple[Any, ...]) -> Any:
    """An empty dictionary, or in protocols 0 and 1 one from a list of pairs."""
    pairs = arguments[0] if arguments else []
    if len(arguments) > 1 or type(pairs) is not list:
        return NotImplemented
    reading.spend_members(len(pairs))
    if not all(isinstance(pair, list | tuple) and len(pair) == 2 and type(pair[0]) is str for pair in pairs):
        return NotImplemented
    return dict(pairs)


def _held(name: str) -> Builder:
    return lambda reading, arguments: NotImplemented if arguments else Holder(name)


def _persistent_object(reading: Reading, arguments: tuple[Any, ...]) -> Any:
    """An object of a class whose source travels in the file; the source is left alone."""
    match arguments:
        case ({"type": "class", "class_name": str(name), "state": dict(state)},):
            return Holder(name, state)
    return NotImplemented


def _tensor(reading: Reading, arguments: tuple[Any, ...]) -> Any:
    match arguments:
        case (Storage() as storage, int(offset), size, stride, *_):
            fitting = whole_numbers(size) and whole_numbers(stride) and len(size) == len(stride)
            return StoredTensor(storage, offset, size, stride) if fitting and offset >= 0 else NotImplemented
    return NotImplemented


def _parameter(reading: Reading, arguments: tuple[Any, ...]) -> Any:
    known = 3 <= len(arguments) <= 4 and isinstance(arguments[0], StoredTensor)
    return arguments[0] if known else NotImplemented


def _size(reading: Reading, arguments: tuple[Any, ...]) -> Any:
    known = len(arguments) == 1 and whole_numbers(arguments[0])
    return arguments[0] if known else NotImplemented


def _device(reading: Reading, arguments: tuple[Any, ...]) -> Any:
    known = 1 <= len(arguments) <= 2 and isinstance(arguments[0], str)
    return arguments[0] if known else NotImplemented


def _encoded(reading: Reading, arguments: tuple[Any, ...]) -> Any:
    """Bytes as protocol 2 writes them: text in which a character is a byte."""
    match arguments:
        case (str(text), "latin1" | "latin-1") if all(ord(character) < 256 for character in text):
            reading.spend_text(len(text))
            return memoryview(text.encode("latin-1"))
    return NotImplemented


def _set(reading: Reading, arguments: tuple[Any, ...]) -> Any:
    match arguments:
        case (list(members),):
            reading.spend_members(len(members))
            return set(members) if all(type(member) is str for member in members) else NotImplemented
    return NotImplemented


def _dtype(reading: Reading, arguments: tuple[Any, ...]) -> Any:
    known = 1 <= len(arguments) <= 3 and isinstance(arguments[0], str) and arguments[0] in NUMBERS
    return Dtype(arguments[0]) if known else NotImplemented


def _scalar(reading: Reading, arguments: tuple[Any, ...]) -> Any:
    match arguments:
        case (Dtype() as dtype, memoryview() as data) if len(data) == struct.calcsize(
            "<" + NUMBERS[dtype.code]
        ):
            return numbers(dtype, data)[0]
    return NotImplemented


def _empty_array(reading: Reading, arguments: tuple[Any, ...]) -> Any:
    known = len(arguments) == 3 and arguments[0] == Global("numpy", "ndarray")
    return Array() if known else NotImplemented


def _array_from_buffer(reading: Reading, arguments: tuple[Any, ...]) -> Any:
    match arguments:
        case (memoryview() as data, Dtype() as dtype, shape, str()) if whole_numbers(shape):
            return Array(dtype, shape, data)
    return NotImplemented


def _mapping(reading: Reading, arguments: tuple[Any, ...]) -> Any:
    """A dictionary of Haiku that cannot be changed."""
    return arguments[0] if len(arguments) == 1 and type(arguments[0]) is dict else NotImplemented


def _named_tuple(reading: Reading, arguments: tuple[Any, ...]) -> Any:
    """Members of an optimiser's state, without their names."""
    return arguments


def _byol_state(reading: Reading, arguments: tuple[Any, ...]) -> Any:
    """BYOL's experiment: the online network's tensors as `online_params/MODULE/NAME`, and its state."""
    match arguments:
        case (dict() as params, _, dict() as state, *_):
            return _tensors_of("online_params", params, reading) | _tensors_of("online_state", state, reading)
    return NotImplemented


def _tensors_of(head: str, modules: dict[Any, Any], reading: Reading) -> dict[str, Any]:
    """Return the arrays of Haiku's modules, {module: {name: array}}, as tensors."""
    found = {}
    for module, leaves in modules.items():
        if type(leaves) is not dict:
            raise reading.refused(f"{head} are not arrays by module and name")
        reading.spend_members(len(leaves))
        for name, array in leaves.items():
            found[f"{head}/{module}/{name}"] = _as_tensor(array, f"{head}/{module}/{name}", reading)
    return found


def _as_tensor(array: Any, name: str, reading: Reading) -> StoredTensor:
    """Return an array as a tensor; its bytes stay where they are."""
    dtype = array.dtype if isinstance(array, Array) else None
    kind = ARRAYS.get(dtype.code) if dtype is not None and dtype.order == "<" else None
    if dtype is None or kind is None:
        raise reading.refused(f"{shown(name)} is no array of numbers that tensors have")
    itemsize, numel = int(dtype.code[1:]), math.prod(array.shape)
    if len(array.data) != numel * itemsize:
        raise reading.damaged(f"array {shown(name)} does not have the size of its shape")
    sizes = array.shape if array.by_columns else array.shape[::-1]
    strides = tuple(itertools.accumulate((1, *sizes[:-1]), operator.mul)) if sizes else ()
    storage = Storage(kind, itemsize, numel, array.data)
    return StoredTensor(storage, 0, array.shape, strides if array.by_columns else strides[::-1])


def numbers(dtype: Dtype, data: memoryview) -> list[Any]:
    """Return the numbers in bytes; none if the bytes are no whole number of them."""
    code = dtype.order + NUMBERS[dtype.code]
    if len(data) % struct.calcsize(code):
        return []
    return [value for (value,) in struct.iter_unpack(code, data)]


def set_state(value: Any, state: Any) -> bool:
    """Give a value its state; dictionaries have one too (the `_metadata` of torch), not kept."""
    match value, state:
        case Holder(), dict():
            value.state.update(state)
        case dict(), dict():
            pass
        case Dtype(), (_, "<" | ">" | "|" | "=" as order, *_):
            value.order = "<" if order in "|=" else order
        case Array(), (_, shape, Dtype() as dtype, bool() as by_columns, memoryview() as data) if (
            whole_numbers(shape)
        ):
            value.dtype, value.shape, value.data, value.by_columns = dtype, shape, data, by_columns
        case _:
            return False
    return True


def _numpy() -> dict[str, Builder]:
    """Numpy's builders by both of their spellings: numpy 2 moved `core` to `_core`."""
    return {
        f"numpy.{core}.{name}": builder
        for core in ("core", "_core")
        for name, builder in (
            ("multiarray.scalar", _scalar),
            ("multiarray._reconstruct", _empty_array),
            ("numeric._frombuffer", _array_from_buffer),
        )
    } | {"numpy.dtype": _dtype}


BUILDERS: dict[str, Callable[[Reading, tuple[Any, ...]], Any]] = {
    **dict.fromkeys(DICTIONARIES, _dictionary),
    **{name: _held(name.rpartition(".")[2]) for name in HELD},
    **_numpy(),
    "torch_utils.persistence._reconstruct_persistent_obj": _persistent_object,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch.Size": _size,
    "torch.device": _device,
    "_codecs.encode": _encoded,
    **dict.fromkeys(MAPPINGS, _mapping),
    **dict.fromkeys(NAMED_TUPLES, _named_tuple),
    "byol.byol_experiment._ByolExperimentState": _byol_state,
    "builtins.set": _set,
    "__builtin__.set": _set,
}

VOCABULARY = Vocabulary(BUILDERS, frozenset(NAMES), set_state)
