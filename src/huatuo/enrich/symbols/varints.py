"""Go's sequences of (value, until) pairs, all of a table decoded at once.

A sequence is a row of LEB128 numbers: by how much the value changes (zigzag; it begins at -1), then
over how many bytes of code it holds, and so on; a change of 0 ends it. Many functions share one.

Format: Go's runtime/symtab.go (step).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["Sequences"]

I4 = npt.NDArray[np.int32]
I8 = npt.NDArray[np.int64]
U8 = npt.NDArray[np.uint64]
_WIDEST = 5  # bytes of a number


class Sequences:
    """The sequences that begin at `offsets` of `octets`; what begins at none is skipped.

    `quantum` is what lengths of code are counted in.
    """

    def __init__(self, octets: npt.NDArray[np.uint8], offsets: I8, quantum: int) -> None:
        numbers, begins = _numbers(octets)
        offsets = np.unique(offsets[offsets > 0])
        at = np.searchsorted(begins, offsets)
        real = np.append(begins, -1)[at] == offsets
        self._offsets, at = offsets[real], at[real]
        counts = (_closings(numbers, at) - at) // 2
        self._firsts = np.cumsum(counts) - counts  # the first pair of each
        self._counts = counts
        of = np.repeat(np.arange(len(at)), counts)
        index = at[of] + 2 * (np.arange(len(of)) - self._firsts[of])
        changes, spans = numbers[index], numbers[index + 1] * np.int64(max(quantum, 1))
        changes = np.where(changes & 1, ~(changes >> 1), changes >> 1)
        self._values = (_sums(changes, self._firsts, of) - 1).astype(np.int32)
        self._begins = _sums(spans, self._firsts, of) - spans

    def steps(self, offsets: I8) -> I8:
        """How many steps each of these sequences has; 0 for one that is not there."""
        return self._found(offsets)[1]

    def laid_out(self, entries: U8, ends: U8, offsets: I8) -> tuple[U8, I4]:
        """(addresses ascending, value from there on): function i uses the sequence at offsets[i].

        Each function begins with a step of its own; -1 where it has no sequence.
        """
        which, counts = self._found(offsets)
        of = np.repeat(np.arange(len(offsets)), counts)
        pair = np.arange(len(of)) + np.repeat(
            self._firsts[which[counts > 0]] - (np.cumsum(counts) - counts)[counts > 0],
            counts[counts > 0],
        )
        points = entries[of] + self._begins[pair].astype(np.uint64)
        kept = points < ends[of]
        without = counts == 0
        points = np.concatenate([points[kept], entries[without]])
        values = np.concatenate([self._values[pair[kept]], np.full(without.sum(), -1, np.int32)])
        order = np.argsort(points, kind="stable")
        return points[order], values[order]

    def _found(self, offsets: I8) -> tuple[I8, I8]:
        """(index of the sequence, its steps) for each; 0 steps where there is none."""
        which = np.searchsorted(self._offsets, offsets)
        known = np.append(self._offsets, -1)[which] == offsets
        return which, np.where(known, np.append(self._counts, 0)[which], 0)


def _numbers(octets: npt.NDArray[np.uint8]) -> tuple[I8, I8]:
    """(all LEB128 numbers, where each begins)."""
    ends = np.flatnonzero(octets < 0x80)
    begins = np.append(0, ends[:-1] + 1)[: len(ends)]
    numbers = np.zeros(len(ends), np.int64)
    for place in range(_WIDEST):
        more = np.flatnonzero(ends - begins >= place)
        numbers[more] |= (octets[begins[more] + place].astype(np.int64) & 0x7F) << (7 * place)
    return numbers, begins


def _closings(numbers: I8, begins: I8) -> I8:
    """For each sequence the number that ends it: the first change of 0 but for its very first."""
    if not len(begins):
        return begins
    zeros = np.flatnonzero(numbers == 0)
    sequence = np.searchsorted(begins, zeros, side="right") - 1
    zeros, sequence = zeros[sequence >= 0], sequence[sequence >= 0]
    position = zeros - begins[sequence]
    closing = zeros[(position > 0) & (position % 2 == 0)]
    found = np.append(closing, len(numbers))[np.searchsorted(closing, begins)]
    ends: I8 = np.minimum(found, np.append(begins[1:], len(numbers)))
    return ends


def _sums(numbers: I8, first: I8, of: I8) -> I8:
    """Running sums that begin anew with each sequence."""
    running: I8 = np.cumsum(numbers)
    before: I8 = np.append(0, running)[first]
    return running - before[of]
