"""A pickle as plain data: nothing it names is imported or called, and what it holds is bounded by its own bytes.

Containers, numbers, texts and descriptions of tensors come out as they are. Every class or function the file names is a
`Named`, and what the file would make of it a `Record` of that name with the arguments and the state it was given.
"""

import math
import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Named", "PickleError", "Record", "StorageRef", "TensorRef", "read_pickle"]

_MAX_OPERATIONS = 4_000_000
_MAX_DIMENSIONS = 8
_KEYS = (str, int, float, bytes, type(None))
Storages = Callable[[str, str, int], "StorageRef"]
"""Finds the storage of a type's name, a key and a number of elements; PickleError where the file has none such."""


class PickleError(ValueError):
    """The pickle is damaged, or asks for what data never needs."""


@dataclass(slots=True, eq=False)
class Named:
    """A class or a function that the file names, as `module.name`."""

    name: str


@dataclass(slots=True, eq=False)
class Record:
    """What the file would have made by calling `name`: the arguments, the state set after it, and what was added."""

    name: str
    arguments: tuple[Any, ...] = ()
    state: Any = None
    items: list[Any] = field(default_factory=list)


@dataclass(frozen=True, slots=True, eq=False)
class StorageRef:
    """Bytes of the file beside the pickle: their key, the type of the elements, and how many there are."""

    key: str
    kind: str
    count: int


@dataclass(frozen=True, slots=True, eq=False)
class TensorRef:
    """A tensor of the file that was not read yet; it lies within its storage and has no more elements than that."""

    storage: StorageRef
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


def read_pickle(data: bytes, storages: Storages) -> Any:
    """The value a pickle holds; PickleError for whatever is no sound pickle of a checkpoint."""
    machine = _Machine(storages)
    try:
        for count, (operation, argument, _) in enumerate(pickletools.genops(data)):
            if count >= _MAX_OPERATIONS:
                raise PickleError(f"more than {_MAX_OPERATIONS} steps")
            machine.step(operation.name, argument)
    except PickleError:
        raise
    except (ValueError, OverflowError) as error:  # bytes that are no pickle; integers of thousands of digits
        raise PickleError(" ".join(str(error).split())[:200]) from None
    return machine.result()


_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_LITERALS = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
}
_IGNORED = {"PROTO", "FRAME", "STOP"}


class _Machine:
    """The stack machine of pickle, with records in place of objects."""

    def __init__(self, storages: Storages) -> None:
        self.storages = storages
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []  # the stacks under the open marks
        self.memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        if name in _LITERALS:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name not in _IGNORED:
            do = getattr(self, f"op_{name.lower()}", None)
            if do is None:
                raise PickleError(f"the operation {name}, which no checkpoint needs")
            do(argument)

    def result(self) -> Any:
        if len(self.stack) != 1 or self.below:
            raise PickleError("more or less than one value at its end")
        return self.stack[0]

    def _pop(self) -> Any:
        if not self.stack:
            raise PickleError("a value is taken that was never put there")
        return self.stack.pop()

    def _top(self) -> Any:
        if not self.stack:
            raise PickleError("a value is used that was never put there")
        return self.stack[-1]

    def _to_mark(self) -> list[Any]:
        if not self.below:
            raise PickleError("a mark is used that was never set")
        above, self.stack = self.stack, self.below.pop()
        return above

    def _text(self) -> str:
        value = self._pop()
        if not isinstance(value, str):
            raise PickleError("a name that is no text")
        return value

    # The operations, by their names in pickletools.

    def op_mark(self, _: Any) -> None:
        self.below.append(self.stack)
        self.stack = []

    def op_pop(self, _: Any) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self._to_mark()

    def op_pop_mark(self, _: Any) -> None:
        self._to_mark()

    def op_dup(self, _: Any) -> None:
        self.stack.append(self._top())

    def op_put(self, key: Any) -> None:
        self.memo[int(key)] = self._top()

    op_binput = op_long_binput = op_put

    def op_memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self._top()

    def op_get(self, key: Any) -> None:
        if int(key) not in self.memo:
            raise PickleError("a value is fetched that was never kept")
        self.stack.append(self.memo[int(key)])

    op_binget = op_long_binget = op_get

    def op_empty_list(self, _: Any) -> None:
        self.stack.append([])

    def op_empty_dict(self, _: Any) -> None:
        self.stack.append({})

    def op_empty_tuple(self, _: Any) -> None:
        self.stack.append(())

    op_empty_set = op_empty_list  # of what a set holds nothing here depends on being found by value

    def op_list(self, _: Any) -> None:
        values = self._to_mark()
        self.stack.append(values)

    op_frozenset = op_list

    def op_tuple(self, _: Any) -> None:
        values = tuple(self._to_mark())
        self.stack.append(values)

    def _take(self, count: int) -> None:
        values = [self._pop() for _ in range(count)]
        self.stack.append(tuple(reversed(values)))

    def op_tuple1(self, _: Any) -> None:
        self._take(1)

    def op_tuple2(self, _: Any) -> None:
        self._take(2)

    def op_tuple3(self, _: Any) -> None:
        self._take(3)

    def op_dict(self, _: Any) -> None:
        values = self._to_mark()
        self.stack.append({})
        self._set(values)

    def op_append(self, _: Any) -> None:
        self._add([self._pop()])

    def op_appends(self, _: Any) -> None:
        self._add(self._to_mark())

    op_additems = op_appends

    def _add(self, values: list[Any]) -> None:
        target = self._top()
        if not isinstance(target, (list, Record)):
            raise PickleError(f"values are added to a {type(target).__name__}")
        (target.items if isinstance(target, Record) else target).extend(values)

    def op_setitem(self, _: Any) -> None:
        value = self._pop()
        self._set([self._pop(), value])

    def op_setitems(self, _: Any) -> None:
        self._set(self._to_mark())

    def _set(self, values: list[Any]) -> None:
        target = self._top()
        if len(values) % 2:
            raise PickleError("a key without a value")
        pairs = list(zip(values[::2], values[1::2], strict=True))
        if isinstance(target, Record):
            target.items.extend(pairs)
        elif isinstance(target, dict):
            target.update((_key(key), value) for key, value in pairs)
        else:
            raise PickleError(f"entries are set in a {type(target).__name__}")

    def op_global(self, name: str) -> None:
        self.stack.append(Named(name.replace(" ", ".", 1)))

    def op_stack_global(self, _: Any) -> None:
        name = self._text()
        self.stack.append(Named(f"{self._text()}.{name}"))

    def op_inst(self, name: str) -> None:
        arguments = tuple(self._to_mark())
        self.stack.append(Record(name.replace(" ", ".", 1), arguments))

    def op_obj(self, _: Any) -> None:
        kind, *arguments = self._to_mark() or [None]
        self.stack.append(Record(_name_of(kind), tuple(arguments)))

    def op_newobj(self, _: Any) -> None:
        arguments = self._pop()
        self.stack.append(Record(_name_of(self._pop()), _as_tuple(arguments)))

    def op_newobj_ex(self, _: Any) -> None:
        self._pop()
        self.op_newobj(None)

    def op_reduce(self, _: Any) -> None:
        arguments = _as_tuple(self._pop())
        self.stack.append(_call(self._pop(), arguments))

    def op_build(self, _: Any) -> None:
        state, target = self._pop(), self._top()
        if isinstance(target, Record):
            target.state = state
        elif not isinstance(target, dict):  # torch hangs versions on its ordered mappings
            raise PickleError(f"a state is set on a {type(target).__name__}")

    def op_binpersid(self, _: Any) -> None:
        match self._pop():
            case ("storage", Named(name), str(key), _, int(count)):
                self.stack.append(self.storages(name, key, count))
            case _:
                raise PickleError("a reference to something that is no storage of a tensor")


def _as_tuple(value: Any) -> tuple[Any, ...]:
    if not isinstance(value, tuple):
        raise PickleError(f"arguments that are a {type(value).__name__}")
    return value


def _name_of(kind: Any) -> str:
    if not isinstance(kind, Named):
        raise PickleError(f"an object of a kind that is a {type(kind).__name__}")
    return kind.name


def _key(key: Any) -> Any:
    # Tuples in tuples would be hashed level by level, without a bound.
    if isinstance(key, _KEYS) or (isinstance(key, tuple) and all(isinstance(part, _KEYS) for part in key)):
        return key
    if isinstance(key, (Named, Record)):
        return key
    raise PickleError(f"a key that is a {type(key).__name__}")


def _call(function: Any, arguments: tuple[Any, ...]) -> Any:
    """What a call means, for the few functions that make data; a record of it otherwise."""
    name = _name_of(function)
    match name, arguments:
        case "collections.OrderedDict", ():
            return {}
        case "collections.OrderedDict", ([*pairs],) if all(isinstance(p, (list, tuple)) and len(p) == 2 for p in pairs):
            return {_key(key): value for key, value in pairs}
        case "torch._utils._rebuild_tensor" | "torch._utils._rebuild_tensor_v2", (storage, offset, size, stride, *_):
            return _tensor(storage, offset, size, stride)
        case "torch._utils._rebuild_parameter" | "torch._utils._rebuild_parameter_with_state", (data, *_):
            return data
        case "torch.Size", (tuple(size),):
            return size
        case "torch.device", (str(device), *_):
            return device
        case "copyreg._reconstructor" | "copy_reg._reconstructor", (Named(made), *_):
            return Record(made)
    return Record(name, arguments)


def _tensor(storage: Any, offset: Any, size: Any, stride: Any) -> TensorRef:
    sound = isinstance(storage, StorageRef) and isinstance(size, tuple) and isinstance(stride, tuple)
    if not sound or len(size) != len(stride) or len(size) > _MAX_DIMENSIONS:
        raise PickleError("a tensor that is none")
    if not all(type(value) is int and value >= 0 for value in (offset, *size, *stride)):
        raise PickleError("a tensor of sizes that are no numbers from 0 on")
    count = math.prod(size)
    last = offset + sum((side - 1) * step for side, step in zip(size, stride, strict=True)) if count else 0
    # No more elements than are stored: a stride of 0 would make any number of them from one.
    if count > storage.count or last >= max(storage.count, 1):
        raise PickleError(f"a tensor of {count} elements up to the {last + 1}th in a storage of {storage.count}")
    return TensorRef(storage, offset, size, stride)
