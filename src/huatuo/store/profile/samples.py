"""Samples in columns. All with one stack and one set of labels are a group.

    Groups   what merging needs: each group's stack and labels, how many samples, their sum
    Rows     the samples themselves, by time: what ranges shorter than a block and series need

They are two blobs of a block, so that merging hours never reads the samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np
import numpy.typing as npt

from huatuo.store.codec import (
    BadBlock,
    compress,
    decode_codes,
    decode_ints,
    decompress,
    encode_codes,
    encode_ints,
    unzigzag,
    zigzag,
)
from huatuo.store.profile.labels import LabelTable

__all__ = ["MILLISECOND", "Groups", "Rows", "group", "join"]

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
MILLISECOND = 1_000_000

_HEADER = msgspec.msgpack.Encoder()
_header = msgspec.msgpack.Decoder(tuple[int, int, int])


@dataclass(frozen=True, slots=True)
class Groups:
    """`nodes` (leaves of stacks), `sets` (into `labels`), `counts` and `sums`: int64 (g,)."""

    labels: LabelTable
    nodes: Ints
    sets: Ints
    counts: Ints
    sums: Ints

    def among(self, mask: Mask) -> Groups:
        """Counting only these groups."""
        if mask.all():
            return self
        counts, sums = np.where(mask, self.counts, 0), np.where(mask, self.sums, 0)
        return replace(self, counts=counts, sums=sums)

    def of(self, rows: Rows) -> Groups:
        """Counting only these samples."""
        counts = np.bincount(rows.group_of, minlength=len(self.nodes))
        return replace(self, counts=counts, sums=_sums(rows.group_of, rows.values, len(counts)))

    def encode(self) -> bytes:
        unit = _unit(self.sums)
        labels = self.labels.encode()
        body = [
            _HEADER.encode((len(self.nodes), unit, len(labels))),
            labels,
            encode_ints(self.nodes.reshape(1, -1)),
            encode_codes(self.sets),
            encode_codes(self.counts),
            # Nothing but zeros where each sample stands for the same.
            encode_codes(zigzag(self.sums // unit - self.counts)),
        ]
        return _sealed(body)

    @classmethod
    def decode(cls, data: bytes) -> Groups:
        """Raises BadBlock."""
        try:
            (count, unit, size), raw = _opened(data)
            labels = LabelTable.decode(raw[:size])
            nodes, raw = decode_ints(raw[size:], 1, count)
            sets, raw = decode_codes(raw, count)
            counts, raw = decode_codes(raw, count)
            excess, raw = decode_codes(raw, count)
        except (IndexError, msgspec.MsgspecError) as error:
            raise BadBlock(str(error)) from error
        sums = (unzigzag(excess.view(np.uint64)) + counts) * unit
        return cls(labels, nodes.reshape(-1), sets, counts, sums)


@dataclass(frozen=True, slots=True)
class Rows:
    """`times` (UTC ns, ascending), `group_of` and `values`: int64 (n,)."""

    times: Ints
    group_of: Ints
    values: Ints

    def within(self, start_ns: int, end_ns: int, groups: Mask) -> Rows:
        """Of these groups, in this range (inclusive)."""
        low = np.searchsorted(self.times, np.int64(start_ns))
        high = np.searchsorted(self.times, np.int64(end_ns), side="right")
        group_of = self.group_of[low:high]
        mask = groups[group_of]
        return Rows(self.times[low:high][mask], group_of[mask], self.values[low:high][mask])

    def encode(self) -> bytes:
        unit = _unit(self.values)
        body = [
            _HEADER.encode((len(self.times), unit, 0)),
            encode_ints((self.times // MILLISECOND).reshape(1, -1)),
            encode_codes(self.group_of),
            encode_codes(zigzag(self.values // unit - 1)),
        ]
        return _sealed(body)

    @classmethod
    def decode(cls, data: bytes) -> Rows:
        """Raises BadBlock."""
        try:
            (count, unit, _), raw = _opened(data)
            times, raw = decode_ints(raw, 1, count)
            group_of, raw = decode_codes(raw, count)
            values, raw = decode_codes(raw, count)
        except (IndexError, msgspec.MsgspecError) as error:
            raise BadBlock(str(error)) from error
        values = (unzigzag(values.view(np.uint64)) + 1) * unit
        return cls(times.reshape(-1) * MILLISECOND, group_of, values)


def group(labels: LabelTable, nodes: Ints, sets: Ints, rows: Rows) -> tuple[Groups, Rows]:
    """Candidates for groups, given by `nodes` and `sets`, may be equal to one another; the samples
    say which one they are of. Here each becomes one group, and the samples are put in order."""
    keys, number = np.unique(nodes << 32 | sets, return_inverse=True)
    order = np.argsort(rows.times, kind="stable")
    ordered = Rows(
        rows.times[order], number.astype(np.int64)[rows.group_of[order]], rows.values[order]
    )
    counts = np.bincount(ordered.group_of, minlength=len(keys))
    sums = _sums(ordered.group_of, ordered.values, len(keys))
    return Groups(labels, keys >> 32, keys & 0xFFFFFFFF, counts, sums), ordered


def join(blocks: Sequence[tuple[Groups, Rows]]) -> tuple[Groups, Rows]:
    """Several blocks as one."""
    labels, number = LabelTable.joined([groups.labels for groups, _ in blocks]).distinct()
    sets, group_of = [], []
    sets_before = groups_before = 0
    for groups, rows in blocks:
        sets.append(number[groups.sets + sets_before])
        group_of.append(rows.group_of + groups_before)
        sets_before += groups.labels.size
        groups_before += len(groups.nodes)
    together = Rows(
        np.concatenate([rows.times for _, rows in blocks]),
        np.concatenate(group_of),
        np.concatenate([rows.values for _, rows in blocks]),
    )
    nodes = np.concatenate([groups.nodes for groups, _ in blocks])
    return group(labels, nodes, np.concatenate(sets), together)


def _sums(group_of: Ints, values: Ints, groups: int) -> Ints:
    """Exact, where bincount would go through floats."""
    found = np.zeros(groups, np.int64)
    np.add.at(found, group_of, values)
    return found


def _unit(values: Ints) -> int:
    """What all values are multiples of: samples of one clock stand for the same time each."""
    return max(int(np.gcd.reduce(values, initial=0)), 1)


def _sealed(body: Sequence[bytes]) -> bytes:
    return compress(len(body[0]).to_bytes(1, "little") + b"".join(body))


def _opened(data: bytes) -> tuple[tuple[int, int, int], memoryview]:
    raw = memoryview(decompress(data))
    end = 1 + raw[0]
    return _header.decode(raw[1:end]), raw[end:]
