"""Records as the kernel wrote them: a schema read from BTF and one structured array."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from huatuo.model.meaning import Meaning

__all__ = ["Field", "RecordBatch", "Schema"]


@dataclass(frozen=True, slots=True)
class Field:
    """One member of a C struct."""

    name: str
    meaning: Meaning
    help: str = ""
    labels: Mapping[int, str] = field(default_factory=dict)  # of a C enum: value → label
    kernel_enum: str = ""  # the labels come from this enum of the running kernel
    members: tuple[Field, ...] = ()  # of a struct, or of each element of an array of structs

    @property
    def json_name(self) -> str:
        """The name in JSON, with its unit: wait → wait_ns, victim_tgid → victim_pid."""
        if self.meaning.rename:
            head, _, _ = self.name.rpartition("_")
            return f"{head}_{self.meaning.rename}" if head else self.meaning.rename
        suffix = self.meaning.suffix
        return self.name if self.name.endswith(suffix) else self.name + suffix


@dataclass(frozen=True, slots=True)
class Schema:
    """A C struct: numpy dtype with the compiler's offsets, and what each field means."""

    name: str
    dtype: np.dtype[np.void]
    fields: tuple[Field, ...]
    help: str = ""

    def __iter__(self) -> Iterator[Field]:
        return iter(self.fields)

    def field(self, name: str) -> Field:
        """Raises KeyError, naming the struct."""
        for candidate in self.fields:
            if candidate.name == name:
                return candidate
        raise KeyError(f"struct {self.name} has no field {name}")


@dataclass(frozen=True, slots=True)
class RecordBatch:
    """Records of one ring, in ring order; `rows` has shape (n,) and the schema's dtype."""

    probe: str
    ring: str
    schema: Schema
    rows: npt.NDArray[np.void]

    def __len__(self) -> int:
        return len(self.rows)
