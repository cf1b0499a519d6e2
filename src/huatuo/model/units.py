"""Numbers with units: parsing what people write, showing what they can read."""

from __future__ import annotations

import re
from collections.abc import Mapping

from huatuo.errors import ConfigError

__all__ = ["example", "parse", "percent", "show", "show_amount", "show_bytes", "show_duration"]

_NUMBER = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-zµ%]*)\s*")
_DURATIONS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60 * 1_000_000_000,
    "h": 3600 * 1_000_000_000,
    "d": 86400 * 1_000_000_000,
}
_SIZES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_RATIOS = {"%": 0.01}
_EXAMPLES = {
    "duration_ns_t": '"10ms"',
    "bytes_t": '"64KiB"',
    "ratio": '"1%"',
    "bool": "true",
    "text": '"text"',
}


def example(typedef: str) -> str:
    """How a value of this meaning is written in the configuration."""
    return _EXAMPLES.get(typedef, "100")


def parse(typedef: str, value: object, where: str) -> int | float | str | bool:
    """`value` as the configuration has it → ns, bytes, a ratio or the plain value.

    Raises ConfigError naming `where` and giving an example.
    """
    if typedef == "duration_ns_t":
        return round(_with_unit(value, _DURATIONS, typedef, where))
    if typedef == "bytes_t":
        return round(_with_unit(value, _SIZES, typedef, where))
    if typedef == "ratio":
        return _with_unit(value, _RATIOS, typedef, where)
    if typedef == "text" and isinstance(value, str):
        return value
    if typedef == "bool" and isinstance(value, bool):
        return value
    if typedef not in ("text", "bool") and isinstance(value, int) and not isinstance(value, bool):
        return value
    raise _wrong(value, typedef, where)


def _with_unit(value: object, units: Mapping[str, float], typedef: str, where: str) -> float:
    found = _NUMBER.fullmatch(value) if isinstance(value, str) else None
    if not found or found[2] not in units:
        raise _wrong(value, typedef, where)
    number = float(found[1]) if "." in found[1] else int(found[1])  # whole ones stay exact
    return number * units[found[2]]


def _wrong(value: object, typedef: str, where: str) -> ConfigError:
    kind = {
        "duration_ns_t": "a duration with its unit (ns, us, ms, s, m, h, d)",
        "bytes_t": "a size with its unit (B, KiB, MiB, GiB, TiB)",
        "ratio": "a percentage",
        "bool": "true or false",
        "text": "a text",
    }.get(typedef, "a whole number")
    shown = f'"{value}"' if isinstance(value, str) else value
    return ConfigError(f"{where} = {shown}: expected {kind}, for example {example(typedef)}")


def show(typedef: str, value: float | str | bool) -> str:
    """The reverse of `parse`, as it stands in a configuration file."""
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, bool):
        return str(value).lower()
    if typedef == "duration_ns_t":
        return f'"{_largest(value, _DURATIONS, "ns", skip=("µs",))}"'
    if typedef == "bytes_t":
        return f'"{_largest(value, _SIZES, "B")}"'
    if typedef == "ratio":
        return f'"{value * 100:g}%"'
    return str(value)


def _largest(
    value: float, units: Mapping[str, float], smallest: str, skip: tuple[str, ...] = ()
) -> str:
    for unit, size in sorted(units.items(), key=lambda item: -item[1]):
        if unit not in skip and value >= size and value % size == 0:
            return f"{round(value // size)}{unit}"
    return f"{round(value)}{smallest}"


def show_duration(seconds: float) -> str:
    """For people, three digits: 38.2 ms, 1.50 s."""
    for limit, scale, unit in ((1e-6, 1e9, "ns"), (1e-3, 1e6, "µs"), (1.0, 1e3, "ms")):
        if seconds < limit * 0.9995:  # what is rounded up to 1000 is one of the next unit
            return f"{seconds * scale:.3g} {unit}"
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min"


def show_bytes(count: float) -> str:
    """For people: 1.5 GiB."""
    for unit, size in sorted(_SIZES.items(), key=lambda item: -item[1]):
        if count >= size:
            return f"{count / size:.4g} {unit}"
    return f"{count:.0f} B"


def show_amount(unit: str, value: float) -> str:
    """For people, of a profile's unit: nanoseconds, bytes, or a plain number."""
    if unit == "nanoseconds":
        return show_duration(value / 1e9)
    return show_bytes(value) if unit == "bytes" else f"{value:.0f}"


def percent(ratio: float) -> str:
    """For people: 3.21 %, 38 %."""
    return f"{ratio * 100:.3g} %" if ratio < 0.1 else f"{ratio * 100:.0f} %"
