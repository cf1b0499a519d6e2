"""What every store of profiles must do. A test module of an implementation does

    from tests.contracts.profiles import *  # noqa: F403

and provides the fixture `new_profiles`: a function that makes an empty store.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from huatuo.errors import BadQuery
from huatuo.model.profile import (
    PROFILE_TYPES,
    FrameKind,
    Line,
    Location,
    Profile,
    Samples,
    Stack,
    StackStatus,
)
from huatuo.store.profiles import Matcher, ProfileQuery, ProfileSeries, ProfileStore
from tests.serve.memory_profiles import MemoryProfiles

__all__ = [
    "SECOND",
    "START",
    "TestHostileQueries",
    "TestProfiles",
    "TestProfilesAgainstModel",
    "batch",
    "paths",
    "place",
]

SECOND = 1_000_000_000
MILLISECOND = 1_000_000
START = 1_790_000_000 * SECOND
DAY = 86400 * SECOND
New = Callable[[], ProfileStore]
Path = tuple[Location, ...]  # from the root


def place(name: str, address: int = 0, lines: Sequence[str] = ()) -> Location:
    """In the file of that name; `lines`: functions, innermost first."""
    made = tuple(Line(function, f"{function}.c", at) for at, function in enumerate(lines))
    return Location(FrameKind.NATIVE, name, address, "b1d", made)


MAIN, WORK, READ, SLEEP = (place("app", at, [f"f{at}"]) for at in range(4))
SYSCALL = Location(
    FrameKind.KERNEL, "[vmlinux]", 0xFFFFFFFF81000010, "", (Line("do_syscall_64", "common.c", 52),)
)


def batch(
    rows: Sequence[tuple[int, int, Sequence[Location], Mapping[str, str]]],
    type_: str = "cpu",
    status: StackStatus = StackStatus.COMPLETE,
) -> Samples:
    """Rows are (time, value, locations innermost first, labels)."""
    stacks = [Stack(tuple(locations), status) for _, _, locations, _ in rows]
    return Samples(
        type_,
        np.array([row[0] for row in rows], np.int64),
        np.array([row[1] for row in rows], np.int64),
        stacks,
        np.arange(len(rows), dtype=np.int32),
        [row[3] for row in rows],
        np.arange(len(rows), dtype=np.int32),
    )


def paths(profile: Profile) -> dict[Path, int]:
    """Each node's value by its locations from the root; checks that the columns are a tree."""
    parents, locations = profile.parent.tolist(), profile.location.tolist()
    assert parents[0] == locations[0] == -1
    assert len(parents) == len(locations) == len(profile.self_values)
    assert all(0 <= parent < node for node, parent in enumerate(parents[1:], 1))
    found: list[Path] = [()]
    for parent, location in zip(parents[1:], locations[1:], strict=True):
        found.append((*found[parent], profile.locations[location]))
    values = dict(zip(found, profile.self_values.tolist(), strict=True))
    assert len(values) == len(found), "a location stands twice below one node"
    return values


def values(series: Sequence[ProfileSeries]) -> list[tuple[dict[str, str], list[int]]]:
    return [(dict(one.labels), one.values.tolist()) for one in series]


class TestProfiles:
    @pytest.fixture
    def store(self, new_profiles: New) -> ProfileStore:
        return new_profiles()

    def test_empty(self, store: ProfileStore) -> None:
        store.append(batch([]))
        assert store.types(0, 2**63 - 1) == []
        assert store.labels(ProfileQuery("cpu")) == {}
        assert store.set_lines({MAIN: (Line("x"),)}) == 0
        assert store.series(ProfileQuery("cpu", START, START + SECOND), SECOND) == []
        profile = store.merge(ProfileQuery("cpu", START, START + SECOND))
        assert paths(profile) == {(): 0}
        assert profile.samples == profile.total == 0
        assert profile.statuses == {}
        assert (profile.start_ns, profile.end_ns) == (START, START + SECOND)

    def test_stacks_come_back_as_they_went_in(self, store: ProfileStore) -> None:
        inlined = place("lib", 2**47, ["inner", "outer"])
        plain = Location(FrameKind.JIT, "[anon]", 0x7F00_0000_1000)
        store.append(
            batch([(START, 7, [SYSCALL, READ, inlined, MAIN], {}), (START, 5, [plain], {})])
        )
        profile = store.merge(ProfileQuery("cpu"))
        assert paths(profile) == {
            (): 0,
            (MAIN,): 0,
            (MAIN, inlined): 0,
            (MAIN, inlined, READ): 0,
            (MAIN, inlined, READ, SYSCALL): 7,
            (plain,): 5,
        }
        assert profile.type == PROFILE_TYPES["cpu"]
        assert (profile.samples, profile.total) == (2, 12)
        assert (profile.start_ns, profile.end_ns) == (START, START)
        totals = dict(zip(paths(profile), profile.totals().tolist(), strict=True))
        assert totals[(MAIN, inlined)] == 7
        assert totals[()] == 12

    def test_equal_stacks_add_up(self, store: ProfileStore) -> None:
        for i in range(100):
            store.append(batch([(START + i * SECOND, i, [WORK, MAIN], {"pid": str(i % 7)})] * 3))
        store.append(batch([(START, 1, [READ, WORK, MAIN], {}), (START, 1, [], {})]))
        found = paths(store.merge(ProfileQuery("cpu")))
        assert found == {
            (): 1,
            (MAIN,): 0,
            (MAIN, WORK): 3 * sum(range(100)),
            (MAIN, WORK, READ): 1,
        }

    def test_the_same_place_in_different_files_and_kinds(self, store: ProfileStore) -> None:
        different = [
            Location(kind, file, address, build, lines)
            for kind in FrameKind
            for file in ("a", "b")
            for address in (0, 2**32, 2**63 + 5)
            for build in ("", "1f")
            for lines in ((), (Line("f"),), (Line("f", "x.c"),), (Line("f", "x.c", 3), Line("g")))
        ]
        rows = [(START, at + 1, [each], {}) for at, each in enumerate(different)]
        store.append(batch(rows))
        found = paths(store.merge(ProfileQuery("cpu")))
        assert found == {(): 0} | {(each,): at + 1 for at, each in enumerate(different)}

    def test_deep_stacks_share_what_they_have_in_common(self, store: ProfileStore) -> None:
        deep = [place("deep", at) for at in range(500)]
        rows = [(START, 1, deep[-depth:], {}) for depth in range(1, 501)]
        store.append(batch(rows))
        profile = store.merge(ProfileQuery("cpu"))
        assert len(profile.parent) == 501
        assert sorted(profile.totals().tolist()) == [*range(1, 501), 500]

    def test_sums_are_exact(self, store: ProfileStore) -> None:
        big = 2**60 + 1
        store.append(
            batch([(START, big, [MAIN], {}), (START, -2, [MAIN], {}), (START, 0, [WORK], {})])
        )
        found = paths(store.merge(ProfileQuery("cpu")))
        assert found == {(): 0, (MAIN,): big - 2, (WORK,): 0}
        (series,) = store.series(ProfileQuery("cpu", START, START), SECOND)
        assert series.values.tolist() == [big - 2]

    def test_statuses(self, store: ProfileStore) -> None:
        for value, status in ((5, StackStatus.COMPLETE), (3, StackStatus.NO_ROWS)):
            store.append(batch([(START, value, [MAIN], {"a": "b"})] * 2, status=status))
        profile = store.merge(ProfileQuery("cpu"))
        assert profile.statuses == {"complete": 10, "no_rows": 6}
        assert paths(profile) == {(): 0, (MAIN,): 16}
        assert store.labels(ProfileQuery("cpu")) == {"a": ["b"]}

    def test_types(self, store: ProfileStore) -> None:
        store.append(batch([(START, 1, [MAIN], {}), (START + 10 * SECOND, 1, [MAIN], {})]))
        store.append(batch([(START + 5 * SECOND, 1, [MAIN], {})], "lock"))
        assert store.types(0, 2**63 - 1) == ["cpu", "lock"]
        assert store.types(START, START) == ["cpu"]
        assert store.types(START + SECOND, START + 9 * SECOND) == ["lock"]  # a gap in a batch
        assert store.types(START + 11 * SECOND, START + DAY) == []
        assert store.merge(ProfileQuery("lock")).samples == 1

    @pytest.mark.parametrize(("first", "last"), [(0, 0), (0, 399), (100, 250), (399, 500), (3, 1)])
    def test_time_range_is_inclusive(self, store: ProfileStore, first: int, last: int) -> None:
        for i in range(0, 400, 8):
            rows = [(START + at * SECOND, 1 << 10, [MAIN], {}) for at in range(i, i + 8)]
            store.append(batch(rows))
        query = ProfileQuery("cpu", START + first * SECOND, START + last * SECOND)
        profile = store.merge(query)
        assert profile.samples == max(min(last, 399) - first + 1, 0)
        assert profile.total == profile.samples << 10

    def test_times_to_the_millisecond(self, store: ProfileStore) -> None:
        store.append(batch([(START + 1_999_999, 1, [MAIN], {})]))
        assert (
            store.merge(ProfileQuery("cpu", START + MILLISECOND, START + MILLISECOND)).samples == 1
        )
        assert store.merge(ProfileQuery("cpu", START + MILLISECOND + 1)).samples == 0

    def test_clock_set_back(self, store: ProfileStore) -> None:
        for offset in (0, -7200, 5):
            for i in range(40):
                store.append(batch([(START + (offset + i) * SECOND, 1, [MAIN], {})]))
        assert store.merge(ProfileQuery("cpu")).samples == 120
        assert store.merge(ProfileQuery("cpu", START)).samples == 80
        assert store.merge(ProfileQuery("cpu", 0, START - SECOND)).samples == 40

    def test_days_apart(self, store: ProfileStore) -> None:
        for day in range(4):
            for i in range(40):
                now = START + day * 3 * DAY // 2 + i * SECOND
                store.append(batch([(now, 1, [place("day", day), MAIN], {}), (now, 1, [MAIN], {})]))
        expected = {(): 0, (MAIN,): 160} | {(MAIN, place("day", day)): 40 for day in range(4)}
        assert paths(store.merge(ProfileQuery("cpu"))) == expected
        assert len(store.merge(ProfileQuery("cpu")).locations) == 5
        second = store.merge(ProfileQuery("cpu", START + DAY, START + 2 * DAY))
        assert paths(second) == {(): 0, (MAIN,): 40, (MAIN, place("day", 1)): 40}
        assert store.set_lines({MAIN: (Line("renamed"),)}) == 1
        assert len(store.merge(ProfileQuery("cpu")).parent) == 6

    MATCHERS: tuple[tuple[Sequence[Matcher], str], ...] = (
        ((), "abcde"),
        ((Matcher("container", "=", "web"),), "a"),
        ((Matcher("container", "!=", "web"),), "bcde"),
        ((Matcher("container", "=", ""),), "de"),
        ((Matcher("container", "!=", ""),), "abc"),
        ((Matcher("container", "=~", "web"),), "a"),  # not web-2: anchored
        ((Matcher("container", "=~", "web.*"),), "ab"),
        ((Matcher("container", "=~", "web|db"),), "ac"),
        ((Matcher("container", "!~", "web.*"),), "cde"),
        ((Matcher("container", "=~", ""),), "de"),
        ((Matcher("container", "=~", ".*"),), "abcde"),
        ((Matcher("container", "=~", ".+"),), "abc"),
        ((Matcher("container", "=~", "(?i)WEB"),), "a"),
        ((Matcher("comm", "=~", "two.lines"),), "e"),
        ((Matcher("nothing", "=", ""),), "abcde"),
        ((Matcher("nothing", "=~", "x?"),), "abcde"),
        ((Matcher("nothing", "!=", ""),), ""),
        ((Matcher("container", "=~", "web.*"), Matcher("comm", "=", "sh")), "b"),
        ((Matcher("container", "=", "web"), Matcher("container", "=", "db")), ""),
    )

    @pytest.mark.parametrize(("matchers", "expected"), MATCHERS)
    def test_matchers(
        self, store: ProfileStore, matchers: tuple[Matcher, ...], expected: str
    ) -> None:
        labels = {
            "a": {"container": "web", "comm": "py"},
            "b": {"container": "web-2", "comm": "sh"},
            "c": {"container": "db"},
            "d": {"container": "", "comm": "sh"},
            "e": {"comm": "two\nlines"},
        }
        for name, each in labels.items():
            store.append(batch([(START, 1, [place(name)], each)]))
        query = ProfileQuery("cpu", matchers=matchers)
        found = store.merge(query)
        assert sorted(location.mapping for location in found.locations) == sorted(expected)
        words = {"container": set(), "comm": set()}
        for name in expected:
            for label, word in labels[name].items():
                words[label].add(word)
        wanted = {name: sorted(w - {""}) for name, w in sorted(words.items()) if w - {""}}
        assert store.labels(query) == wanted
        bounded = ProfileQuery("cpu", START, START, matchers)
        assert values(store.series(bounded, SECOND)) == (
            [({}, [len(expected)])] if expected else []
        )

    @pytest.mark.parametrize(
        "matcher",
        [
            Matcher("a", "=~", "("),
            Matcher("a", "!~", "[z-a]"),
            Matcher("a", "=~", "x" * 1001),
            Matcher("a", "==", "x"),
        ],
    )
    def test_bad_matchers(self, store: ProfileStore, matcher: Matcher) -> None:
        store.append(batch([(START, 1, [MAIN], {"a": "b"})]))
        query = ProfileQuery("cpu", START, START, (matcher,))
        with pytest.raises(BadQuery):
            store.merge(query)
        with pytest.raises(BadQuery):
            store.labels(query)
        with pytest.raises(BadQuery):
            store.series(query, SECOND)

    def test_bad_queries(self, store: ProfileStore) -> None:
        store.append(batch([(START, 1, [MAIN], {})]))
        with pytest.raises(BadQuery):
            store.series(ProfileQuery("cpu", START), SECOND)
        with pytest.raises(BadQuery):
            store.series(ProfileQuery("cpu", START, START), 0)
        with pytest.raises(BadQuery, match="wall"):
            store.merge(ProfileQuery("wall"))

    def test_labels_are_those_of_the_samples_in_the_range(self, store: ProfileStore) -> None:
        for i in range(100):
            store.append(batch([(START + i * SECOND, 1, [MAIN], {"pid": str(i), "cpu": "0"})]))
        query = ProfileQuery("cpu", START + 95 * SECOND, START + 97 * SECOND)
        assert store.labels(query) == {"cpu": ["0"], "pid": ["95", "96", "97"]}

    def test_series(self, store: ProfileStore) -> None:
        for i in range(100):
            labels = {"container": f"c{i % 2}", "cpu": str(i % 4)}
            store.append(batch([(START + i * SECOND, i, [MAIN], labels)]))
        store.append(batch([(START + 5 * SECOND, 1000, [MAIN], {})]))
        query = ProfileQuery("cpu", START, START + 99 * SECOND)
        total = [sum(range(at, at + 10)) for at in range(0, 100, 10)]
        total[0] += 1000
        assert values(store.series(query, 10 * SECOND)) == [({}, total)]
        by = values(store.series(query, 50 * SECOND, ["container"]))
        assert by == [
            ({}, [1000, 0]),
            ({"container": "c0"}, [sum(range(0, 50, 2)), sum(range(50, 100, 2))]),
            ({"container": "c1"}, [sum(range(1, 50, 2)), sum(range(51, 100, 2))]),
        ]
        short = ProfileQuery("cpu", START + 7 * SECOND, START + 8 * SECOND)
        assert values(store.series(short, 60 * SECOND, ["cpu", "container"])) == [
            ({"cpu": "0", "container": "c0"}, [8]),
            ({"cpu": "3", "container": "c1"}, [7]),
        ]
        assert values(store.series(query, 1000 * SECOND, ["color"])) == [({}, [sum(total)])]

    def test_values_are_spread_over_the_time_before(self, store: ProfileStore) -> None:
        """Samples at 1.5, 3 and 3.25 s of 0.25, 2.5 and 9 s; the last began before the range."""
        at = [(1.5, 0.25, "a"), (3.0, 2.5, "b"), (3.25, 9.0, "a")]
        for end, length, name in at:
            row = (START + int(end * SECOND), int(length * SECOND), [MAIN], {"container": name})
            store.append(batch([row]))
        query = ProfileQuery("cpu", START, START + 4 * SECOND)
        sixteenth = SECOND // 16
        both = [16 + 8, 16 + 16 + 4, 16 + 16, 4, 0]
        (found,) = store.series(query, SECOND, spread=True)
        assert (found.values // sixteenth).tolist() == both
        found = store.series(query, SECOND, ["container"], spread=True)
        assert [(one.values // sixteenth).tolist() for one in found] == [
            [16, 20, 16, 4, 0],
            [8, 16, 16, 0, 0],
        ]

    def test_gauges_are_averaged_over_the_times(self, store: ProfileStore) -> None:
        """400 bytes, then 1000, then nothing of it for two looks."""
        for i, sizes in enumerate(([400], [600, 400], [], [])):
            rows = [(START + i * 30 * SECOND, size, [MAIN], {"pid": "1"}) for size in sizes]
            rows.append((START + i * 30 * SECOND, 100, [WORK], {"pid": "2"}))
            store.append(batch(rows, "resident"))
        query = ProfileQuery("resident", START, START + 119 * SECOND)
        assert paths(store.merge(query)) == {(): 0, (MAIN,): 350, (WORK,): 100}
        assert store.merge(query).statuses == {"complete": 450}
        assert store.merge(query).samples == 7
        only = ProfileQuery("resident", START, START + 119 * SECOND, (Matcher("pid", "=", "1"),))
        assert paths(store.merge(only)) == {(): 0, (MAIN,): 700}
        assert values(store.series(query, 60 * SECOND, ["pid"])) == [
            ({"pid": "1"}, [700, 0]),
            ({"pid": "2"}, [100, 100]),
        ]

    def test_symbols_that_come_later(self, store: ProfileStore) -> None:
        """What is stored is repaired, wherever it is; what is appended later stands as it is."""
        unknown = [place("lib", at) for at in range(20)]
        for i in range(300):
            store.append(batch([(START + i * SECOND, 1, [unknown[i % 20], MAIN], {})]))
        lines = {
            unknown[at]: (Line(f"inner{at}", "a.c", at), Line(f"outer{at}")) for at in range(10)
        }
        assert store.set_lines(lines | {place("never", 5): (Line("seen"),)}) == 10
        assert store.set_lines(lines) == 0
        named = [each._replace(lines=lines.get(each, ())) for each in unknown]
        expected = {(): 0, (MAIN,): 0} | {(MAIN, each): 15 for each in named}
        assert paths(store.merge(ProfileQuery("cpu"))) == expected
        store.append(batch([(START, 1, [unknown[0], MAIN], {}), (START, 1, [named[1], MAIN], {})]))
        expected |= {(MAIN, unknown[0]): 1, (MAIN, named[1]): 16}
        assert paths(store.merge(ProfileQuery("cpu"))) == expected
        assert store.set_lines({named[0]: (), named[1]: (Line("again"),)}) == 2
        again = named[1]._replace(lines=(Line("again"),))
        del expected[(MAIN, named[0])], expected[(MAIN, named[1])]
        expected |= {(MAIN, unknown[0]): 16, (MAIN, again): 16}
        assert paths(store.merge(ProfileQuery("cpu"))) == expected

    def test_symbols_that_make_two_locations_one(self, store: ProfileStore) -> None:
        bare, named = place("lib", 1), place("lib", 1, ["f"])
        store.append(
            batch([(START, 1, [READ, bare, MAIN], {}), (START, 2, [READ, named, MAIN], {})])
        )
        assert len(paths(store.merge(ProfileQuery("cpu")))) == 6
        assert store.set_lines({bare: named.lines}) == 1
        profile = store.merge(ProfileQuery("cpu"))
        assert paths(profile)[(MAIN, named, READ)] == 3
        assert len(profile.locations) == 3

    def test_texts_of_strangers(self, store: ProfileStore) -> None:
        """Nothing that a symbol, a file or a thread is called keeps samples from being stored."""
        texts = ["", "\0", "a\0b", "\ud800", "\x00" * 5000, "ü" * 5000, "'\"\\\n", "😀"]
        rows = []
        for text in texts:
            where = Location(FrameKind.NATIVE, text, 1, text, (Line(text, text, 2**40),))
            rows.append((START, 1, [where], {"comm": text, text: "x"}))
        store.append(batch(rows))
        profile = store.merge(ProfileQuery("cpu"))
        assert profile.total == len(texts)
        lines = {location.lines[0].function for location in profile.locations}
        assert {"", "\0", "a\0b", "'\"\\\n", "😀"} <= lines
        assert store.set_lines({row[2][0]: (Line("\ud800"),) for row in rows}) >= 5
        found = store.labels(ProfileQuery("cpu"))
        assert {"\0", "a\0b", "'\"\\\n", "😀"} <= set(found["comm"])
        matcher = Matcher("comm", "=", "a\0b")
        assert store.merge(ProfileQuery("cpu", matchers=(matcher,))).samples == 1

    def test_readers_beside_the_writer(self, store: ProfileStore) -> None:
        """Whatever a reader sees is a prefix of what was appended, batch by batch."""
        unknown = place("lib", 1)

        def read() -> tuple[int, int, int]:
            profile = store.merge(ProfileQuery("cpu"))
            assert {location[:4] for location in profile.locations} <= {unknown[:4], MAIN[:4]}
            series = store.series(ProfileQuery("cpu", START, START + 1000 * SECOND), 10**12)
            return profile.samples, profile.total, sum(int(one.values.sum()) for one in series)

        with ThreadPoolExecutor(4) as pool:
            answers = []
            for i in range(100):
                store.append(batch([(START + i * SECOND, 1, [unknown, MAIN], {"i": str(i)})] * 10))
                if i % 10 == 0:
                    store.set_lines({unknown: (Line(f"f{i}"),)})
                answers += [pool.submit(read) for _ in range(2)]
            for answer in answers:
                samples, total, later = answer.result()
                assert samples == total <= later
                assert samples % 10 == later % 10 == 0


class TestHostileQueries:
    @pytest.mark.parametrize(
        "expression", ["(a+)+b", "(a|aa)+$b", "(.*a){20}b", "(?:a?){200}a{200}b", "(x+x+)+y"]
    )
    def test_no_expression_hangs_a_reader(self, new_profiles: New, expression: str) -> None:
        store = new_profiles()
        for i in range(100):
            store.append(batch([(START, 1, [MAIN], {"comm": "a" * 200 + str(i)})]))
        matcher = Matcher("comm", "=~", expression)
        began = time.process_time()
        assert store.merge(ProfileQuery("cpu", matchers=(matcher,))).samples == 0
        assert time.process_time() - began < 5

    def test_answers_are_bounded(self, new_profiles: New) -> None:
        store = new_profiles()
        store.append(batch([(START, 1, [MAIN], {})]))
        with pytest.raises(BadQuery):
            store.series(ProfileQuery("cpu", START, START + DAY), 1000)


# A small world, so that things meet: few places, some of which differ in their lines only.
_LINES = st.sampled_from([(), (Line("f"),), (Line("g", "g.c", 7), Line("f"))])
_LOCATIONS = st.builds(
    Location,
    st.sampled_from([FrameKind.NATIVE, FrameKind.KERNEL]),
    st.sampled_from(["lib", "app"]),
    st.sampled_from([0, 1, 2**64 - 1]),
    st.sampled_from(["", "b1d"]),
    _LINES,
)
_STACKS = st.builds(
    Stack,
    st.lists(_LOCATIONS, max_size=5).map(tuple),
    st.sampled_from([StackStatus.COMPLETE, StackStatus.NO_INFO]),
)
_LABELS = st.dictionaries(st.sampled_from("abc"), st.sampled_from(["", "1", "2", "x1"]), max_size=3)
_TYPES = st.sampled_from(["cpu", "resident"])
_TIMES = st.one_of(st.integers(0, 30_000), st.sampled_from([0, 90_000_000, 200_000_000])).map(
    lambda milliseconds: START + milliseconds * MILLISECOND
)


@st.composite
def _batches(draw: st.DrawFn) -> Samples:
    stacks = draw(st.lists(_STACKS, min_size=1, max_size=6))
    labels = draw(st.lists(_LABELS, min_size=1, max_size=4))
    rows = draw(
        st.lists(
            st.tuples(
                _TIMES,
                st.integers(-5, 2**40),
                st.integers(0, len(stacks) - 1),
                st.integers(0, len(labels) - 1),
            ),
            max_size=12,
        )
    )
    columns = np.array(rows, np.int64).reshape(-1, 4).T
    return Samples(
        draw(_TYPES),
        columns[0] + draw(st.integers(0, MILLISECOND - 1)),
        columns[1],
        stacks,
        columns[2].astype(np.int32),
        labels,
        columns[3].astype(np.int32),
    )


_SYMBOLS = st.dictionaries(_LOCATIONS, _LINES, max_size=4)
_STEPS = st.lists(st.one_of(_batches(), _batches(), _batches(), _SYMBOLS), max_size=14)
_MATCHERS = st.builds(
    Matcher,
    st.sampled_from("abcd"),
    st.sampled_from(["=", "!=", "=~", "!~"]),
    st.sampled_from(["", "1", "x1", "1|2", "x?.", ".*", "[^1]+"]),
)
_QUERIES = st.builds(
    ProfileQuery,
    _TYPES,
    st.one_of(st.just(0), _TIMES),
    st.one_of(st.just(2**63 - 1), _TIMES),
    st.lists(_MATCHERS, max_size=2).map(tuple),
)


class TestProfilesAgainstModel:
    @settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
    @given(_STEPS, st.lists(_QUERIES, min_size=1, max_size=4))
    def test_answers_are_the_models(
        self, new_profiles: New, steps: list[Samples | dict], queries: list[ProfileQuery]
    ) -> None:
        store, model = new_profiles(), MemoryProfiles()
        for step in steps:
            if isinstance(step, Samples):
                store.append(step)
                model.append(step)
            else:
                assert store.set_lines(step) == model.set_lines(step)
        for query in queries:
            self.compare(store, model, query)

    @staticmethod
    def compare(store: ProfileStore, model: ProfileStore, query: ProfileQuery) -> None:
        found, expected = store.merge(query), model.merge(query)
        assert paths(found) == paths(expected)
        assert set(found.locations) == set(expected.locations)
        assert found.samples == expected.samples
        assert found.statuses == expected.statuses
        assert (found.start_ns, found.end_ns) == (expected.start_ns, expected.end_ns)
        assert store.labels(query) == model.labels(query)
        assert store.types(query.start_ns, query.end_ns) == model.types(
            query.start_ns, query.end_ns
        )
        end = min(query.end_ns, START + 300_000 * SECOND)
        start = max(query.start_ns, START - SECOND)
        bounded = ProfileQuery(query.type, start, end, query.matchers)
        for step, by in ((3600 * SECOND, ()), (7001 * SECOND, ("b", "a"))):
            if start <= end:
                for spread in (False, True):
                    assert values(store.series(bounded, step, by, spread)) == values(
                        model.series(bounded, step, by, spread)
                    )
