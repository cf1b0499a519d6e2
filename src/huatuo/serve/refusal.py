"""A request that cannot be answered, as the caller sees it: {error, what, hint} and a status."""

from __future__ import annotations

from huatuo.errors import HuatuoError

__all__ = ["Refusal", "bad_parameter"]


class Refusal(HuatuoError):  # noqa: N818  (reads as a sentence)
    """`error` is a word for programs, `what` a sentence, `hint` what to do."""

    def __init__(self, status: int, error: str, what: str, hint: str = "") -> None:
        super().__init__(f"{what}; {hint}" if hint else what)
        self.status = status
        self.error = error
        self.what = what
        self.hint = hint


def bad_parameter(name: str, value: str, why: str, example: str) -> Refusal:
    return Refusal(
        400, "bad_parameter", f"{name}={value!r}: {why}", f"for example {name}={example}"
    )
