"""A pickle machine that only builds inert values.

Python's unpickler imports and calls what a file names; torch's `weights_only` unpickler calls
torch's own functions with whatever sizes a file claims. This machine does neither: a name stands
for itself, a call is made only to a builder of the given vocabulary, and each builder returns one
of `genplug.foreign.values`. Whatever the file says, reading it is bounded:

- a length is compared with the bytes that are left before anything is made of it;
- bytes stay where they are in the mapped file; text, opcodes and copies have a budget per file;
- dictionary keys are short scalars, so that no key is costly to hash or to compare;
- the machine never recurses, and a self-referring or deeply nested value costs no more than
  the opcodes that write it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from genplug.errors import WeightsError
from genplug.foreign.opcodes import OPERATIONS
from genplug.foreign.values import Global, shown

MOST_OPCODES = 2_000_000
MOST_TEXT = 64 << 20
MOST_MEMBERS = 2_000_000  # copied from one container into another, over the whole file
LONGEST_LINE = 1024
LARGEST_KEY = 1 << 60  # larger integers can be made to collide
STOP = ord(".")

REMEDY = "nothing in it was run; ask its author for safetensors, or for a state dict saved by torch.save"


@dataclass
class Reading:
    """One file being read: its name for messages, and what it may still cost."""

    source: str
    opcodes: int = MOST_OPCODES
    text: int = MOST_TEXT
    members: int = MOST_MEMBERS

    def damaged(self, what: str) -> WeightsError:
        """Describe a file that breaks off or contradicts itself."""
        return WeightsError(f"{self.source} is damaged or no file of weights: {what}")

    def refused(self, what: str) -> WeightsError:
        """Describe a file that asks for more than data."""
        return WeightsError(f"{self.source} is refused: {what}; {REMEDY}")

    def spend_opcode(self) -> None:
        """Count one opcode."""
        self.opcodes -= 1
        if self.opcodes < 0:
            raise self.refused(f"it has more than {MOST_OPCODES} pickle opcodes")

    def spend_text(self, length: int) -> None:
        """Count bytes of text."""
        self.text -= length
        if self.text < 0:
            raise self.refused(f"it has more than {MOST_TEXT >> 20} MiB of text")

    def spend_members(self, count: int) -> None:
        """Count members that are copied: a file can name one large container again and again."""
        self.members -= count
        if self.members < 0:
            raise self.refused(f"it copies more than {MOST_MEMBERS} members")


Builder = Callable[[Reading, tuple[Any, ...]], Any]


@dataclass(frozen=True)
class Vocabulary:
    """The names a file may use: some stand for a builder, some only for themselves.

    A builder returns NotImplemented for arguments that it does not know. `state` gives an object
    its state (BUILD) and returns False if the object cannot have it.
    """

    builders: Mapping[str, Builder]
    names: frozenset[str]
    state: Callable[[Any, Any], bool]


class Machine:
    """Reads pickles, one after the other, from a buffer."""

    def __init__(
        self,
        data: memoryview,
        reading: Reading,
        vocabulary: Vocabulary,
        persistent: Callable[[Any], Any] | None = None,
    ) -> None:
        self.data, self.reading, self.vocabulary, self.persistent = data, reading, vocabulary, persistent
        self.position = 0
        self._reset()

    def _reset(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        """Read one pickle and return its value."""
        self._reset()
        while True:
            self.reading.spend_opcode()
            code = self.take(1)[0]
            if code == STOP:
                return self.pop()
            operation = OPERATIONS.get(code)
            if operation is None:
                raise self.reading.refused(f"opcode {code:#04x} at byte {self.position - 1}")
            operation(self)

    def take(self, count: int) -> memoryview:
        """Return the next bytes without copying them."""
        end = self.position + count
        if end > len(self.data):
            raise self.reading.damaged(f"byte {self.position} announces {count} bytes and it ends before")
        view = self.data[self.position : end]
        self.position = end
        return view

    def number(self, layout: str) -> Any:
        """Return one number of a `struct` layout."""
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def line(self) -> str:
        """Return the text up to the next line end."""
        rest = bytes(self.data[self.position : self.position + LONGEST_LINE])
        length = rest.find(b"\n")
        if length < 0:
            raise self.damaged("no line end after")
        text = self.text(length)
        self.position += 1
        return text

    def text(self, length: int, encoding: str = "utf-8") -> str:
        """Return the next bytes as text."""
        view = self.take(length)
        self.reading.spend_text(length)
        try:
            return str(view, encoding)
        except UnicodeDecodeError:
            raise self.damaged(f"no {encoding} text before") from None

    def push(self, value: Any) -> None:
        """Put a value on the stack."""
        self.stack.append(value)

    def pop(self) -> Any:
        """Take the last value from the stack."""
        if not self.stack:
            raise self.damaged("a value is missing before")
        return self.stack.pop()

    def top(self, kind: type) -> Any:
        """Return the last value, which must be of exactly this kind."""
        if not self.stack or type(self.stack[-1]) is not kind:
            raise self.damaged(f"no {kind.__name__} to fill before")
        return self.stack[-1]

    def pop_to_mark(self) -> list[Any]:
        """Take all values since the last mark."""
        if not self.marks:
            raise self.damaged("a mark is missing before")
        values, self.stack = self.stack, self.marks.pop()
        return values

    def key(self, value: Any) -> Any:
        """Return a value that may be a key or a member of a set; tuples are costly to hash."""
        if value is None or isinstance(value, str | float | Global):
            return value
        if isinstance(value, int) and abs(value) < LARGEST_KEY:
            return value
        raise self.reading.refused(f"a dictionary key before byte {self.position} is no short scalar")

    def recall(self, index: int) -> None:
        """Push a value from the memo."""
        if index not in self.memo:
            raise self.damaged("a value is used that is not there, before")
        self.push(self.memo[index])

    def remember(self, index: int) -> None:
        """Keep the last value in the memo."""
        value = self.pop()
        self.push(value)
        self.memo[index] = value

    def name(self, module: Any, name: Any) -> Global:
        """Return a name of the vocabulary; others are refused."""
        if not isinstance(module, str) or not isinstance(name, str):
            raise self.reading.refused(f"a name before byte {self.position} is no text")
        found = Global(module, name)
        if str(found) not in self.vocabulary.builders and str(found) not in self.vocabulary.names:
            raise self.reading.refused(f"it names {shown(str(found))}, which is no data type of weights")
        return found

    def call(self, target: Any, arguments: Any) -> None:
        """Push what a builder makes of its arguments."""
        if not isinstance(target, Global):
            raise self.reading.refused(f"it calls a value that is no name (byte {self.position})")
        builder = self.vocabulary.builders.get(str(target))
        if builder is None or type(arguments) is not tuple:
            raise self.reading.refused(f"it calls {shown(str(target))}")
        made = builder(self.reading, arguments)
        if made is NotImplemented:
            raise self.reading.refused(f"it calls {shown(str(target))} with unusual arguments")
        self.push(made)

    def set_state(self, state: Any) -> None:
        """Give the last value its state."""
        if type(state) is dict:
            self.reading.spend_members(len(state))
        if not self.stack or not self.vocabulary.state(self.stack[-1], state):
            raise self.reading.refused(f"it sets the state of a plain value (byte {self.position})")

    def damaged(self, what: str) -> WeightsError:
        """Describe damage that shows itself here; `what` ends before the place."""
        return self.reading.damaged(f"{what} byte {self.position}")
