# SPDX-License-Identifier: Apache-2.0
"""The library, its table of functions, its errors, and what every object that it made has in common."""
from __future__ import annotations

import errno
import threading
import weakref
from typing import Any, Callable

from ._declarations import ffi

LIBRARY = "libimpost.so.0"

_state: dict[str, Any] = {}
_state_lock = threading.Lock()


class Error(OSError):
    """What the library refused: `errno` is its code, `name` the code's name, `strerror` the library's text."""

    @property
    def name(self) -> str:
        return text_of(api().error_name(self.errno))


def load(path: str = LIBRARY) -> None:
    """Opens the library at PATH, instead of the one that the linker finds. Before anything else is done."""
    with _state_lock:
        if "api" in _state:
            raise RuntimeError("the library is loaded already")
        library = ffi.dlopen(path)
        table = library.impost_api(library.IMPOST_API_VERSION)
        if table == ffi.NULL:
            raise ImportError(f"{path} has no table of version {library.IMPOST_API_VERSION}")
        if table.size < ffi.sizeof("struct impost_api"):
            raise ImportError(f"{path} is older than this package: it lacks functions")
        _state["library"], _state["api"] = library, table


def api() -> Any:
    """The table of functions, <impost/api.h>."""
    if "api" not in _state:
        try:
            load()
        except RuntimeError:  # another thread was faster
            pass
    return _state["api"]


def constant(name: str) -> int:
    """An integer of the headers: IMPOST_ and NAME."""
    api()
    return getattr(_state["library"], "IMPOST_" + name)


def version() -> str:
    """The version of the library that is loaded."""
    return text_of(api().version())


def text_of(pointer: Any) -> str:
    return "" if pointer == ffi.NULL else ffi.string(pointer).decode(errors="replace")


def chars(text: str | None) -> Any:
    """TEXT as the library takes it; the caller keeps it alive for the call."""
    if text is None:
        return ffi.NULL
    if "\0" in text:
        raise ValueError("a NUL in a text that the library takes")
    return ffi.new("char[]", text.encode())


def sized(type_name: str, **values: Any) -> Any:
    """A new struct of TYPE_NAME with its `size` set."""
    return ffi.new(type_name + " *", {"size": ffi.sizeof(type_name), **values})


def check(result: int, context: Any = None) -> int:
    """RESULT, unless it is an error: that is raised, with the text that this thread has on CONTEXT."""
    if result >= 0:
        return result
    text = text_of(api().error(context)) if context is not None else ""
    raise Error(-result, text or text_of(api().error_name(result)))


def filled(call: Callable[[Any, int, Any], int], type_name: str, make: Callable[[Any], Any], context: Any) -> list[Any]:
    """
    What CALL gives into an array that must be large enough, it says how large; each element through MAKE, since what
    leads into the array does not keep it alive.
    """
    count, capacity = ffi.new("uint32_t *"), 64
    while True:
        array = ffi.new(f"{type_name}[]", capacity)
        result = call(array, capacity, count)
        if result != -errno.ENOSPC or count[0] <= capacity:
            check(result, context)
            return [make(array[index]) for index in range(count[0])]
        capacity = count[0]


class Handle:
    """
    What the library made, until it is destroyed. It holds its parent, so that parents outlive children, and it is not
    destroyed while a call is inside it, or a child is there. A passive child ends with its parent.
    """

    # One lock for all: the garbage collector destroys a handle wherever a thread happens to be.
    _lock = threading.RLock()

    def __init__(self, what: str, pointer: Any, destroy: Callable[[Any], Any], parent: Handle | None = None, *,
                 passive: bool = False) -> None:
        self.what, self.parent, self._pointer, self._destroy = what, parent, pointer, destroy
        self.context = pointer if parent is None else parent.context
        self._users = self._children = 0
        self._passive: weakref.WeakSet[Handle] = weakref.WeakSet()
        self._counted = parent is not None and not passive
        if parent is not None:
            with self._lock:
                if passive:
                    parent._passive.add(self)
                else:
                    parent._children += 1

    @property
    def closed(self) -> bool:
        return self._pointer is None

    def __enter__(self) -> Any:
        """The pointer, for a call."""
        with self._lock:
            if self._pointer is None:
                raise ValueError(f"the {self.what} is closed")
            self._users += 1
            return self._pointer

    def __exit__(self, *_: Any) -> None:
        with self._lock:
            self._users -= 1

    def close(self) -> None:
        with self._lock:
            if self._pointer is None:
                return
            if self._users or self._children:
                why = "a call is inside it" if self._users else "what was made from it is still there"
                raise Error(errno.EBUSY, f"the {self.what} cannot be closed: {why}")
            for child in list(self._passive):
                child.close()
            result = self._destroy(self._pointer)
            if result is not None:
                check(result, self.context)
            self._pointer = None
            if self._counted:
                self.parent._children -= 1  # type: ignore[union-attr]

    def __del__(self) -> None:
        try:
            self.close()
        except (OSError, AttributeError, TypeError):
            pass  # half-made, or the interpreter ends


class Closing:
    """An object with a handle: closed by `with`, by close(), or with its last reference."""

    _handle: Handle

    def close(self) -> None:
        """Ends it. Once more does nothing. Error EBUSY: what was made from it is there, or a call is inside."""
        self._handle.close()

    @property
    def closed(self) -> bool:
        return self._handle.closed

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()
