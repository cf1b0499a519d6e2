"""Every error this project raises on purpose.

HuatuoError                 what, on what, why, what to do; one line
├── ConfigError             a setting is unknown or has the wrong form (exit 2)
├── UsageError              the command line cannot be understood (exit 2)
├── BadQuery                no store answers it: a bad expression, too many steps (exit 2)
├── KernelLacks             the kernel or our privileges do not offer something (exit 3)
│   └── BpfError            a BPF object does not open, load or attach; holds the verifier's words
├── Malformed               a file of the kernel does not look as documented
├── serve.refusal.Refusal   a request that the API answers with a status of its own
└── StoreError              the store cannot be opened, read or written
    └── StoreLocked         another agent holds it
"""

from __future__ import annotations

__all__ = [
    "BadQuery",
    "BpfError",
    "ConfigError",
    "HuatuoError",
    "KernelLacks",
    "Malformed",
    "StoreError",
    "StoreLocked",
    "UsageError",
]


class HuatuoError(Exception):
    """Base of all; `exit_code` is what the command line ends with."""

    exit_code = 1


class ConfigError(HuatuoError):
    exit_code = 2


class UsageError(HuatuoError):
    exit_code = 2


class BadQuery(HuatuoError):  # noqa: N818  (reads as a sentence)
    exit_code = 2


class KernelLacks(HuatuoError):  # noqa: N818  (reads as a sentence)
    exit_code = 3


class BpfError(KernelLacks):
    """`log` holds what libbpf and the verifier said, for --verbose."""

    def __init__(self, message: str, log: str = "") -> None:
        super().__init__(message)
        self.log = log


class Malformed(HuatuoError):  # noqa: N818
    """`path` was read and does not have the form the kernel documents."""

    def __init__(self, path: object, why: str) -> None:
        super().__init__(f"{path}: {why}")
        self.path = str(path)


class StoreError(HuatuoError):
    pass


class StoreLocked(StoreError):  # noqa: N818
    pass
