"""Samples of one metric family over some time: the unit that history is kept and moved in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from huatuo.store.codec import (
    BadBlock,
    compress,
    decode_floats,
    decode_ints,
    decompress,
    encode_floats,
    encode_ints,
)

__all__ = ["Piece"]

Ids = npt.NDArray[np.int32]
Times = npt.NDArray[np.int64]
Slots = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float64]

_HEADER = msgspec.msgpack.Encoder()


@dataclass(frozen=True, slots=True)
class Piece:
    """`values` (t, s); for histograms these are the sums, and `slots` is (t, s, width).

    NaN in `values` means that the series has no sample at that time.
    """

    times: Times
    ids: Ids
    values: Floats
    slots: Slots | None = None

    @property
    def width(self) -> int:
        return 0 if self.slots is None else self.slots.shape[2]

    @property
    def size(self) -> int:
        return self.values.nbytes + (0 if self.slots is None else self.slots.nbytes)

    def pick(self, times: npt.NDArray[np.intp], ids: npt.NDArray[np.intp] | None = None) -> Piece:
        """By position."""
        where = (times,) if ids is None else np.ix_(times, ids)
        return Piece(
            self.times[times],
            self.ids if ids is None else self.ids[ids],
            self.values[where],
            None if self.slots is None else self.slots[where],
        )

    def select(self, start_ns: int, end_ns: int, ids: Ids | None = None) -> Piece:
        """Times in the range (inclusive), series among `ids`."""
        times = np.flatnonzero((self.times >= start_ns) & (self.times <= end_ns))
        series = None if ids is None else np.flatnonzero(np.isin(self.ids, ids))
        whole = len(times) == len(self.times) and (series is None or len(series) == len(self.ids))
        return self if whole else self.pick(times, series)

    def thin(self, step_ns: int, origin_ns: int = 0) -> Piece:
        """The last sample of each step; steps begin at multiples of `step_ns` after `origin_ns`."""
        if len(self.times) < 2:
            return self
        steps = (self.times - origin_ns) // step_ns
        last = np.append(np.flatnonzero(np.diff(steps)), len(steps) - 1)
        return self if len(last) == len(steps) else self.pick(last)

    @classmethod
    def merge(cls, pieces: Sequence[Piece]) -> Piece:
        """All samples, times and ids ascending; where two hold the same sample, the later wins."""
        ids = pieces[0].ids
        all_times = np.concatenate([piece.times for piece in pieces])
        same = all(p.ids is ids or np.array_equal(p.ids, ids) for p in pieces)
        if same and _ascending(ids) and _ascending(all_times):
            return cls._joined(all_times, pieces)
        times = np.unique(all_times)
        ids = np.unique(np.concatenate([piece.ids for piece in pieces]))
        width = max(piece.width for piece in pieces)
        values = np.full((len(times), len(ids)), np.nan)
        slots = np.zeros((len(times), len(ids), width), np.uint64) if width else None
        for piece in pieces:
            rows = np.searchsorted(times, piece.times)
            columns = np.searchsorted(ids, piece.ids)
            if len(piece.times) > 1 and np.isnan(piece.values).any():  # keep what others hold
                row, column = np.nonzero(~np.isnan(piece.values))
                into = (rows[row], columns[column])
                values[into] = piece.values[row, column]
                if slots is not None and piece.slots is not None:
                    slots[into] = piece.slots[row, column]
                continue
            box = (rows[0], columns) if len(rows) == 1 else np.ix_(rows, columns)
            values[box] = piece.values[0] if len(rows) == 1 else piece.values
            if slots is not None and piece.slots is not None:
                slots[box] = piece.slots[0] if len(rows) == 1 else piece.slots
        return cls(times, ids, values, slots)

    @classmethod
    def _joined(cls, times: Times, pieces: Sequence[Piece]) -> Piece:
        """One after the other, of the same series."""
        slots = [piece.slots for piece in pieces if piece.slots is not None]
        values = np.concatenate([piece.values for piece in pieces])
        return cls(times, pieces[0].ids, values, np.concatenate(slots) if slots else None)

    def encode(self) -> bytes:
        """Series after series, each along time."""
        count, series = self.values.shape
        scale = _scale(self.times)
        body = [
            _HEADER.encode((count, series, self.width, scale)),
            encode_ints((self.times // scale).reshape(1, -1)),
            encode_ints(self.ids.astype(np.int64).reshape(1, -1)),
            encode_floats(np.ascontiguousarray(self.values.T)),
        ]
        if self.slots is not None:
            rows = self.slots.transpose(1, 2, 0).reshape(series * self.width, count)
            body.append(encode_ints(np.ascontiguousarray(rows).view(np.int64)))
        return compress(len(body[0]).to_bytes(1, "little") + b"".join(body))

    @classmethod
    def decode(cls, data: bytes) -> Piece:
        """Raises BadBlock."""
        raw = memoryview(decompress(data))
        try:
            end = 1 + raw[0]
            count, series, width, scale = msgspec.msgpack.decode(
                raw[1:end], type=tuple[int, int, int, int]
            )
            times, raw = decode_ints(raw[end:], 1, count)
            ids, raw = decode_ints(raw, 1, series)
            values, raw = decode_floats(raw, series, count)
            slots = None
            if width:
                rows, raw = decode_ints(raw, series * width, count)
                slots = rows.view(np.uint64).reshape(series, width, count).transpose(2, 0, 1)
        except (IndexError, ValueError, msgspec.MsgspecError) as error:
            raise BadBlock(str(error)) from error
        return cls(times[0] * scale, ids[0].astype(np.int32), values.T, slots)


def _ascending(values: npt.NDArray[np.integer]) -> bool:
    return bool((values[1:] > values[:-1]).all())


def _scale(times: Times) -> int:
    for scale in (1_000_000_000, 1_000_000, 1_000):
        if not (times % scale).any():
            return scale
    return 1
