"""The rows that the kernel side looks up: written page by page, the oldest making room.

`rows` is one array of 32-bit words shared with the kernel, used as a ring: a page's rows lie
together, and pages whose place is taken again leave the map `pages` first. A row is the offset in
the page << 16 | the number of a rule.
"""

from __future__ import annotations

import mmap
from collections.abc import Mapping, Sequence

import numpy as np

from huatuo.kernel.maps import Map
from huatuo.profilers.native.rules import FRAME_POINTER, NOTHING, Rule

__all__ = ["RowCache"]

_MOST = 4095  # PAGE_ROWS


class RowCache:
    """`maps`: those of bpf/unwind/tables.bpf.h."""

    def __init__(self, maps: Mapping[str, Map]) -> None:
        self._pages, self._rules = maps["pages"], maps["rules"]
        table, rule = maps["rows"].value, self._rules.value
        assert table is not None and rule is not None
        self._rule_type = rule.dtype
        self._memory = mmap.mmap(maps["rows"].fd, table.dtype.itemsize)
        self._rows = np.frombuffer(self._memory, np.uint32)
        self._held: dict[int, tuple[int, int]] = {}  # page key → (first, end), in ring order
        self._most_pages = self._pages.max_entries // 4 * 3  # room for those only asked for
        self._next = 0
        self._numbers: dict[Rule, int] = {}
        self.evicted = 0
        self._number(FRAME_POINTER)  # FRAME_POINTER_RULE is 0
        self._number(NOTHING)

    def put(self, file: int, page: int, rows: Sequence[tuple[int, Rule]]) -> None:
        """The rows in force in a page, by offset in it; the first stands at 0."""
        words = []
        before = FRAME_POINTER
        for offset, rule in rows[:_MOST]:
            # What is entered by a return (glibc's __start_context) is looked up a byte before its
            # begin, as the return address of a call that never was.
            early = int(before is NOTHING and offset > 1)
            words.append(offset - early << 16 | self._number(rule))
            before = rule
        first = self._room(len(words))
        self._rows[first : first + len(words)] = words
        key = file << 32 | page
        self._held.pop(key, None)
        value = np.array([first, len(words)], np.uint32)
        self._pages.update(key.to_bytes(8, "little"), value.tobytes())
        self._held[key] = (first, first + len(words))

    def forget(self, file: int, page: int) -> None:
        """Let the kernel side ask for a page again."""
        key = file << 32 | page
        self._held.pop(key, None)
        self._pages.delete(key.to_bytes(8, "little"))

    def has(self, file: int, page: int) -> bool:
        return file << 32 | page in self._held

    def _room(self, count: int) -> int:
        """Where `count` words can go; what lies there is given up."""
        if self._next + count > len(self._rows):
            self._evict(self._next, len(self._rows))
            self._next = 0
        first, self._next = self._next, self._next + count
        self._evict(first, self._next)
        return first

    def _evict(self, low: int, high: int) -> None:
        """Give up the oldest pages while they lie in a range, or while there are too many."""
        while self._held:
            key, (first, _) = next(iter(self._held.items()))
            if not low <= first < high and len(self._held) < self._most_pages:
                return
            del self._held[key]
            self._pages.delete(key.to_bytes(8, "little"))
            self.evicted += 1

    def _number(self, rule: Rule) -> int:
        """The rule's place in the map `rules`, put there the first time."""
        number = self._numbers.get(rule)
        if number is None:
            if len(self._numbers) >= self._rules.max_entries:
                return self._numbers[NOTHING]
            number = len(self._numbers)
            packed = np.zeros(1, self._rule_type)
            for name, value in rule._asdict().items():
                packed[name] = value
            self._rules.update(number.to_bytes(4, "little"), packed.tobytes())
            self._numbers[rule] = number
        return number

    def close(self) -> None:
        del self._rows  # the last view of the memory, which is unmapped with it
        del self._memory
