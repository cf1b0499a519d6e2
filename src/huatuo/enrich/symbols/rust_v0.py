"""Rust's v0 names: a recursive descent over their grammar.

Source: the rustc book, "v0 Symbol Format" (RFC 2603).

Used in worker processes.
"""

from __future__ import annotations

import re
from collections.abc import Callable

__all__ = ["demangle_v0"]

_LONGEST_RESULT = 8192
_MOST_LIFETIMES = 1000
_DEEPEST = 120
_DIGITS = {
    digit: value
    for value, digit in enumerate("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
}
_BASE62 = re.compile(r"([0-9a-zA-Z]{0,20})_")
_IDENTIFIER = re.compile(r"(u?)(0|[1-9]\d{0,5})_?")
_TYPES = {
    "a": "i8", "b": "bool", "c": "char", "d": "f64", "e": "str", "f": "f32", "h": "u8",
    "i": "isize", "j": "usize", "l": "i32", "m": "u32", "n": "i128", "o": "u128", "s": "i16",
    "t": "u16", "u": "()", "v": "...", "x": "i64", "y": "u64", "z": "!", "p": "_",
}  # fmt: skip
_SIGNED, _UNSIGNED = "aslxni", "htmyoj"
_ESCAPED_CHAR = {"\t": r"\t", "\r": r"\r", "\n": r"\n", "\\": "\\\\", "'": r"\'"}


def demangle_v0(name: str) -> str | None:
    """None if it is no such name, too deep, or longer than 8192 characters as it is read."""
    parser = _Parser(name[2:])
    try:
        parser.path(in_value=True)
        if not parser.is_at_end:  # the crate that instantiated it
            parser.silent(lambda: parser.path(in_value=False))
    except (ValueError, IndexError, OverflowError, RecursionError):
        return None
    return "".join(parser.out) if parser.is_at_end else None


def _lifetime_name(index: int) -> str:
    return f"'{chr(ord('a') + index)}" if index < 26 else f"'z{index}"


class _Parser:
    """Recursive descent over the grammar of v0; ValueError or IndexError on anything else."""

    def __init__(self, text: str) -> None:
        self._text = text
        self.at = 0
        self.out: list[str] = []
        self._length = 0
        self._depth = 0
        self._lifetimes = 0
        self._quiet = False
        self._known: dict[tuple[int, str, int], str] = {}  # what references were found to be

    @property
    def is_at_end(self) -> bool:
        return self.at >= len(self._text)

    def put(self, text: str) -> None:
        if self._quiet:
            return
        self._length += len(text)
        if self._length > _LONGEST_RESULT:
            raise ValueError("too long")
        self.out.append(text)

    def silent(self, parse: Callable[[], None]) -> None:
        before, self._quiet = self._quiet, True
        parse()
        self._quiet = before

    def _next(self) -> str:
        self.at += 1
        return self._text[self.at - 1]

    def _eat(self, character: str) -> bool:
        found = self._text.startswith(character, self.at)
        self.at += found
        return found

    def _until_e(self, parse: Callable[[], None], separator: str = ", ") -> int:
        count = 0
        while not self._eat("E"):
            if count:
                self.put(separator)
            parse()
            count += 1
        return count

    def _base62(self) -> int:
        """`_` is 0, `0_` is 1, …"""
        found = _BASE62.match(self._text, self.at)
        if found is None:
            raise ValueError("a number without an end")
        self.at = found.end()
        value = 0
        for digit in found[1]:
            value = value * 62 + _DIGITS[digit]
        return value + 1 if found[1] else 0

    def _optional62(self, tag: str) -> int:
        return self._base62() + 1 if self._eat(tag) else 0

    def _identifier(self) -> str:
        head = _IDENTIFIER.match(self._text, self.at)
        if head is None:
            raise ValueError("no name where one must be")
        self.at = head.end() + int(head[2])
        found = self._text[head.end() : self.at]
        if self.at > len(self._text):
            raise ValueError("ends within a name")
        if head[1]:
            ascii_part, _, tail = found.rpartition("_")
            found = f"{ascii_part}-{tail}" if ascii_part else tail
            return found.encode("ascii").decode("punycode")
        return found

    def _backref(self, kind: str, parse: Callable[[], None]) -> None:
        """What stands further left; never itself or further right, so that it ends."""
        begin = self.at - 1
        target = self._base62()
        if target >= begin:
            raise ValueError("a reference forwards")
        if self._quiet:
            return
        key = (target, kind, self._lifetimes)
        known = self._known.get(key)
        if known is not None:
            self.put(known)
            return
        back, self.at, before = self.at, target, len(self.out)
        parse()
        self.at = back
        self._known[key] = "".join(self.out[before:])

    def _enter(self) -> None:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise ValueError("too deep")

    def path(self, in_value: bool) -> None:
        self._enter()
        self._path(in_value)
        self._depth -= 1

    def _path(self, in_value: bool) -> None:
        tag = self._next()
        if tag == "C":
            self._optional62("s")
            self.put(self._identifier())
        elif tag == "N":
            self._nested(in_value)
        elif tag in "MX":
            self._optional62("s")
            self.silent(lambda: self.path(in_value=False))
            self._impl(has_trait=tag == "X")
        elif tag == "Y":
            self._impl(has_trait=True)
        elif tag == "I":
            self.path(in_value)
            self.put("::<" if in_value else "<")
            self._until_e(self._argument)
            self.put(">")
        elif tag == "B":
            self._backref("value" if in_value else "path", lambda: self.path(in_value))
        else:
            raise ValueError(f"no path begins with {tag}")

    def _nested(self, in_value: bool) -> None:
        space = self._next()
        self.path(in_value)
        number = self._optional62("s")
        name = self._identifier()
        if space.islower():
            self.put(f"::{name}" if name else "")
            return
        kind = {"C": "closure", "S": "shim"}.get(space, space)
        self.put(f"::{{{kind}{f':{name}' if name else ''}#{number}}}")

    def _impl(self, has_trait: bool) -> None:
        self.put("<")
        self.type()
        if has_trait:
            self.put(" as ")
            self.path(in_value=False)
        self.put(">")

    def _argument(self) -> None:
        if self._eat("L"):
            self._lifetime()
        elif self._eat("K"):
            self._const()
        else:
            self.type()

    def _lifetime(self) -> None:
        number = self._base62()
        if number == 0:
            self.put("'_")
            return
        index = self._lifetimes - number
        if index < 0:
            raise ValueError("a lifetime that nothing binds")
        self.put(_lifetime_name(index))

    def _binder(self, parse: Callable[[], None]) -> None:
        count = self._optional62("G")
        if count > _MOST_LIFETIMES:
            raise ValueError("too many lifetimes")
        first = self._lifetimes
        self._lifetimes += count
        if count:
            names = [
                f"'{chr(ord('a') + i)}" if i < 26 else f"'z{i}" for i in range(first, first + count)
            ]
            self.put(f"for<{', '.join(names)}> ")
        parse()
        self._lifetimes -= count

    def type(self) -> None:
        self._enter()
        self._type()
        self._depth -= 1

    def _type(self) -> None:
        tag = self._next()
        if tag in _TYPES:
            self.put(_TYPES[tag])
        elif tag in "RQ":
            self._reference(tag == "Q")
        elif tag in "PO":
            self.put("*const " if tag == "P" else "*mut ")
            self.type()
        elif tag in "AS":
            self._array(has_length=tag == "A")
        elif tag == "T":
            self.put("(")
            self.put(",)" if self._until_e(self.type) == 1 else ")")
        elif tag == "F":
            self._binder(self._function)
        elif tag == "D":
            self.put("dyn ")
            self._binder(self._bounds)
            self._bound_lifetime()
        elif tag == "B":
            self._backref("type", self.type)
        else:
            self.at -= 1
            self.path(in_value=False)

    def _reference(self, is_mutable: bool) -> None:
        self.put("&")
        if self._eat("L"):
            before = len(self.out)
            self._lifetime()
            if self.out[before:] == ["'_"]:
                self.out.pop()
            else:
                self.put(" ")
        self.put("mut " if is_mutable else "")
        self.type()

    def _array(self, has_length: bool) -> None:
        self.put("[")
        self.type()
        if has_length:
            self.put("; ")
            self._const()
        self.put("]")

    def _function(self) -> None:
        self.put("unsafe " if self._eat("U") else "")
        if self._eat("K"):
            abi = "C" if self._eat("C") else self._identifier().replace("_", "-")
            self.put(f'extern "{abi}" ')
        self.put("fn(")
        self._until_e(self.type)
        self.put(")")
        if not self._eat("u"):
            self.put(" -> ")
            self.type()

    def _bounds(self) -> None:
        self._until_e(self._bound, " + ")

    def _bound(self) -> None:
        is_open = self._open_path()
        while self._eat("p"):
            self.put(", " if is_open else "<")
            is_open = True
            self.put(f"{self._identifier()} = ")
            self.type()
        self.put(">" if is_open else "")

    def _open_path(self) -> bool:
        """A trait's path, its `<…` left open for what follows."""
        if self._eat("B"):
            begin, target = self.at - 1, self._base62()
            if target >= begin:
                raise ValueError("a reference forwards")
            back, self.at = self.at, target
            self._enter()
            is_open = self._open_path()
            self._depth -= 1
            self.at = back
            return is_open
        is_open = self._eat("I")
        self.path(in_value=False)
        if is_open:
            self.put("<")
            self._until_e(self._argument)
        return is_open

    def _bound_lifetime(self) -> None:
        if not self._eat("L"):
            raise ValueError("a trait object without a lifetime")
        before = len(self.out)
        self.put(" + ")
        self._lifetime()
        if self.out[-1:] == ["'_"]:
            del self.out[before:]

    def _const(self) -> None:
        self._enter()
        self._constant()
        self._depth -= 1

    def _constant(self) -> None:
        tag = self._next()
        if tag == "p":
            self.put("_")
        elif tag == "B":
            self._backref("const", self._const)
        elif tag in _SIGNED or tag in _UNSIGNED:
            sign = "-" if tag in _SIGNED and self._eat("n") else ""
            digits = self._hex()
            self.put(sign + (str(int(digits or "0", 16)) if len(digits) <= 16 else f"0x{digits}"))
        elif tag == "b":
            self.put({"0": "false", "1": "true"}[self._hex() or "0"])
        elif tag == "c":
            character = chr(int(self._hex() or "0", 16))
            self.put(f"'{_ESCAPED_CHAR.get(character, character)}'")
        else:
            raise ValueError(f"a constant of a type that is not known: {tag}")

    def _hex(self) -> str:
        begin = self.at
        while self._text[self.at] in "0123456789abcdef":
            self.at += 1
        found = self._text[begin : self.at]
        if not self._eat("_"):
            raise ValueError("a number without an end")
        return found.lstrip("0")
