"""The opcodes of pickle protocols 0 to 5, each as a function of a machine.

Absent, and so refused: EXT1, EXT2, EXT4 (names from a registry of the process), PERSID (no writer
of weights uses its text form), NEXT_BUFFER and READONLY_BUFFER (bytes outside the file).
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genplug.foreign.machine import Machine

Operation = Callable[["Machine"], None]
LONGEST_INT = 64  # bytes
LONGEST_DIGITS = 155


def _protocol(m: Machine) -> None:
    if m.number("<B") > pickle.HIGHEST_PROTOCOL:
        raise m.damaged("an unknown pickle protocol before")


def _frame(m: Machine) -> None:
    """FRAME: a hint for reading ahead; only its claim is checked."""
    length = m.number("<Q")
    if length > len(m.data) - m.position:
        raise m.damaged(f"a frame of {length} bytes does not fit after")


def _constant(value: Any) -> Operation:
    return lambda m: m.push(value)


def _number(layout: str) -> Operation:
    return lambda m: m.push(m.number(layout))


def _text(layout: str, encoding: str = "utf-8") -> Operation:
    return lambda m: m.push(m.text(m.number(layout), encoding))


def _bytes(layout: str) -> Operation:
    return lambda m: m.push(m.take(m.number(layout)))


def _long(layout: str) -> Operation:
    def operation(m: Machine) -> None:
        length = m.number(layout)
        if not 0 <= length <= LONGEST_INT:
            raise m.reading.refused(f"it has an integer of {length} bytes")
        m.push(int.from_bytes(m.take(length), "little", signed=True))

    return operation


def _integer(m: Machine) -> int:
    """Return the number on this line, whose digits are few: reading them takes quadratic time."""
    digits = m.line().removesuffix("L")
    if len(digits) > LONGEST_DIGITS or not digits.isascii() or not digits.removeprefix("-").isdigit():
        raise m.damaged("no integer before")
    return int(digits)


def _float(m: Machine) -> None:
    try:
        m.push(float(m.line()))
    except ValueError:
        raise m.damaged("no number before") from None


def _quoted(m: Machine) -> None:
    """STRING: a byte string of Python 2; only plain ones occur in weights."""
    text = m.line()
    if len(text) < 2 or text[0] != text[-1] or text[0] not in "'\"" or "\\" in text:
        raise m.damaged("no plain string before")
    m.push(text[1:-1])


def _unquoted(m: Machine) -> None:
    """UNICODE: one line of text; only plain ones occur in weights."""
    text = m.line()
    if "\\" in text:
        raise m.damaged("no plain text before")
    m.push(text)


def _tuple(count: int) -> Operation:
    return lambda m: m.push(tuple([m.pop() for _ in range(count)][::-1]))


def _from_mark(make: Callable[[Machine, list[Any]], Any]) -> Operation:
    return lambda m: m.push(make(m, m.pop_to_mark()))


def _pairs(m: Machine, values: list[Any]) -> dict[Any, Any]:
    if len(values) % 2:
        raise m.damaged("a key without a value before")
    return {m.key(key): value for key, value in zip(values[::2], values[1::2], strict=True)}


def _set_items(m: Machine) -> None:
    pairs = _pairs(m, m.pop_to_mark())
    m.top(dict).update(pairs)


def _set_item(m: Machine) -> None:
    value, key = m.pop(), m.pop()
    m.top(dict)[m.key(key)] = value


def _append(m: Machine) -> None:
    value = m.pop()
    m.top(list).append(value)


def _appends(m: Machine) -> None:
    values = m.pop_to_mark()
    m.top(list).extend(values)


def _add_items(m: Machine) -> None:
    values = m.pop_to_mark()
    m.top(set).update(m.key(value) for value in values)


def _mark(m: Machine) -> None:
    m.marks.append(m.stack)
    m.stack = []


def _pop(m: Machine) -> None:
    if m.stack:
        m.pop()
    else:
        m.pop_to_mark()


def _pop_mark(m: Machine) -> None:
    m.pop_to_mark()


def _duplicate(m: Machine) -> None:
    value = m.pop()
    m.stack += [value, value]


def _global(m: Machine) -> None:
    module, name = m.line(), m.line()
    m.push(m.name(module, name))


def _stack_global(m: Machine) -> None:
    name, module = m.pop(), m.pop()
    m.push(m.name(module, name))


def _call(m: Machine) -> None:
    """REDUCE calls a function, NEWOBJ makes an object of a class: both are a builder's work."""
    arguments, target = m.pop(), m.pop()
    m.call(target, arguments)


def _call_with_keywords(m: Machine) -> None:
    keywords = m.pop()
    if type(keywords) is not dict or keywords:
        raise m.reading.refused(f"it makes an object from keywords (byte {m.position})")
    _call(m)


def _call_named(m: Machine) -> None:
    """INST: a call of the name that follows with the values since the mark."""
    module, name = m.line(), m.line()
    m.call(m.name(module, name), tuple(m.pop_to_mark()))


def _call_first(m: Machine) -> None:
    """OBJ: a call of the first value since the mark with the others."""
    target, *arguments = m.pop_to_mark() or [None]
    m.call(target, tuple(arguments))


def _persistent(m: Machine) -> None:
    if m.persistent is None:
        raise m.reading.refused(f"it refers to something outside itself (byte {m.position})")
    m.push(m.persistent(m.pop()))


_BY_CODE: dict[bytes, Operation] = {
    pickle.PROTO: _protocol,
    pickle.FRAME: _frame,
    pickle.NONE: _constant(None),
    pickle.NEWTRUE: _constant(True),
    pickle.NEWFALSE: _constant(False),
    pickle.EMPTY_TUPLE: _constant(()),
    pickle.EMPTY_LIST: lambda m: m.push([]),
    pickle.EMPTY_DICT: lambda m: m.push({}),
    pickle.EMPTY_SET: lambda m: m.push(set()),
    pickle.INT: lambda m: m.push(_integer(m)),
    pickle.LONG: lambda m: m.push(_integer(m)),
    pickle.BININT: _number("<i"),
    pickle.BININT1: _number("<B"),
    pickle.BININT2: _number("<H"),
    pickle.LONG1: _long("<B"),
    pickle.LONG4: _long("<i"),
    pickle.FLOAT: _float,
    pickle.BINFLOAT: _number(">d"),
    pickle.STRING: _quoted,
    pickle.SHORT_BINSTRING: _text("<B", "latin-1"),
    pickle.BINSTRING: _text("<I", "latin-1"),
    pickle.UNICODE: _unquoted,
    pickle.SHORT_BINUNICODE: _text("<B"),
    pickle.BINUNICODE: _text("<I"),
    pickle.BINUNICODE8: _text("<Q"),
    pickle.SHORT_BINBYTES: _bytes("<B"),
    pickle.BINBYTES: _bytes("<I"),
    pickle.BINBYTES8: _bytes("<Q"),
    pickle.BYTEARRAY8: _bytes("<Q"),
    pickle.TUPLE1: _tuple(1),
    pickle.TUPLE2: _tuple(2),
    pickle.TUPLE3: _tuple(3),
    pickle.TUPLE: _from_mark(lambda m, values: tuple(values)),
    pickle.LIST: _from_mark(lambda m, values: values),
    pickle.DICT: _from_mark(_pairs),
    pickle.FROZENSET: _from_mark(lambda m, values: {m.key(value) for value in values}),
    pickle.APPEND: _append,
    pickle.APPENDS: _appends,
    pickle.SETITEM: _set_item,
    pickle.SETITEMS: _set_items,
    pickle.ADDITEMS: _add_items,
    pickle.MARK: _mark,
    pickle.POP: _pop,
    pickle.POP_MARK: _pop_mark,
    pickle.DUP: _duplicate,
    pickle.GET: lambda m: m.recall(_integer(m)),
    pickle.BINGET: lambda m: m.recall(m.number("<B")),
    pickle.LONG_BINGET: lambda m: m.recall(m.number("<I")),
    pickle.PUT: lambda m: m.remember(_integer(m)),
    pickle.BINPUT: lambda m: m.remember(m.number("<B")),
    pickle.LONG_BINPUT: lambda m: m.remember(m.number("<I")),
    pickle.MEMOIZE: lambda m: m.remember(len(m.memo)),
    pickle.GLOBAL: _global,
    pickle.STACK_GLOBAL: _stack_global,
    pickle.REDUCE: _call,
    pickle.NEWOBJ: _call,
    pickle.NEWOBJ_EX: _call_with_keywords,
    pickle.INST: _call_named,
    pickle.OBJ: _call_first,
    pickle.BUILD: lambda m: m.set_state(m.pop()),
    pickle.BINPERSID: _persistent,
}
OPERATIONS: dict[int, Operation] = {code[0]: operation for code, operation in _BY_CODE.items()}
