"""The web UI over a real agent on real kernel data, as somebody uses it who looks for a fault.

Programs with known functions run in cgroups of their own; what the pages show of them is compared
with what the programs were told to do.
"""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from huatuo.kernel.features import bpf_unavailable
from tests.browser.chromium import Browser, Page
from tests.browser.profiles import READY, STILL, hash_of, iso, module
from tests.live.agent import EATER, SOON, Running, agent, eventually, limit_memory
from tests.live.conftest import HOST, Group, cgroup, emulated
from tests.live.profiling import compiled

pytestmark = [pytest.mark.live]

CONFIG = """
probes = ["auto"]
[agent]
interval = "1s"
[governor]
cpu = "90%"
profiling = "80%"
memory = "4GiB"
[profile.cpu]
samples_per_second = 49
"""
SECONDS = 14.0
BURN = "import time\nend = time.time() + 1\nwhile time.time() < end: pass\n"
# threads of convoy.c: main, holder, 3 waiters, reader, idler, sleeper
WAITS = {"want_lock": 3 / 8, "holder": 1 / 8, "reader": 1 / 8, "idler": 1 / 8, "sleeper": 1 / 8}


@dataclass(frozen=True, slots=True)
class Scene:
    """A running agent, and when which program ran in which container."""

    running: Running
    url: str
    began: float
    ended: float
    chain: str
    convoy: str

    def names(self, type_: str, container: str) -> list[str]:
        q = f'{{container="{container}"}}'
        asked = {"type": type_, "start": self.began, "end": self.ended, "q": q}
        return list(self.running.get(f"/api/v1/profiles/flame?{urlencode(asked)}")["names"])


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, browser: Browser) -> Iterator[Scene]:  # noqa: ARG001
    """chain.c and convoy.c ran beside each other; before that, for as long, nothing of ours."""
    if missing := bpf_unavailable(HOST):
        pytest.skip(missing)
    folder = tmp_path_factory.mktemp("real")
    programs = [compiled(folder, name, "-O2") for name in ("chain.c", "convoy.c")]
    with agent(folder / "store", CONFIG) as running:
        for name in ("profile.cpu", "profile.blocked"):
            if running.state(name)["status"] != "running":
                pytest.skip(f"{name}: {running.state(name)['reason']}")
        with cgroup("ui-chain") as chain, cgroup("ui-convoy") as convoy:
            time.sleep(SECONDS + 2)
            began = time.time()
            started = [
                group.start([str(program), str(SECONDS)])
                for group, program in zip((chain, convoy), programs, strict=True)
            ]
            for process in started:
                process.communicate(timeout=240)
            names = [f"/{group.directory.name}" for group in (chain, convoy)]
            made = Scene(running, f"http://{running.address}/", began, time.time(), *names)
            for type_, container, function in (
                ("cpu", made.chain, "spin_a"), ("blocked", made.convoy, "want_lock"),
            ):  # fmt: skip
                named = eventually(lambda: function in made.names(type_, container), 180)  # noqa: B023
                assert named, f"{function} is not named in {type_}: {made.names(type_, container)}"
            yield made


def profile(page: Page, scene: Scene, **params: str) -> None:
    """The profiles page of the time in which the programs ran."""
    span = {"from": iso(scene.began * 1e9), "to": iso(scene.ended * 1e9)}
    page.open("about:blank")
    page.open(f"{scene.url}#/profiles?{urlencode(span | params)}")
    page.wait(READY, 60)


def of(container: str) -> str:
    return f'{{container="{container}"}}'


def shares(page: Page) -> dict[str, float]:
    """Function → share of the whole that is shown, with all it calls."""
    found: dict[str, float] = module(page, "calltree", """
        const t = m.treeOf(answer);
        return Object.fromEntries(m.functionsOf(t).map(
          (row) => [t.frames[row.frame].name, row.total / t.total[0]]));""")  # fmt: skip
    return found


def frame_at(page: Page, name: str) -> dict[str, float]:
    """Where the widest frame of a function is in the graph: x as a share of the width, level."""
    found: dict[str, float] = module(page, "flamelayout", f"""
        const {{ treeOf }} = await import(new URL("lib/calltree.js", main));
        const t = treeOf(answer);
        const l = m.layoutOf(t, t.total);
        const all = [...t.parent.keys()].filter((n) => n && t.frames[t.frame[n]].name === "{name}");
        const n = all.sort((a, b) => t.total[b] - t.total[a])[0];
        return {{ x: (l.start[n] + t.total[n] / 2) / l.total, level: l.depth[n] }};""")  # fmt: skip
    return found


def click_text(page: Page, selector: str, text: str) -> None:
    found = (
        f"[...document.querySelectorAll({selector!r})].find(e => e.innerText.includes({text!r}))"
    )
    page.wait(f"!!{found}")
    page.run(f"{found}.click()")


# ---- from the start page to the function ----


def test_from_the_node_to_the_guilty_function(page: Page, scene: Scene) -> None:
    """The start page leads to the profile; a container is chosen, and its functions are there."""
    span = {"from": iso(scene.began * 1e9), "to": iso(scene.ended * 1e9)}
    page.open(f"{scene.url}#/?{urlencode(span)}")
    page.wait("!!document.querySelector('#row-cpu .chart canvas')", 60)
    page.run("document.querySelector('#row-cpu .chart .to-profile').click()")
    page.wait("location.hash.startsWith('#/profiles')")
    page.wait(READY, 60)
    whole = shares(page)
    assert whole["spin_a"] > whole["spin_b"] > whole["compare"] > 0
    page.click(".pop summary")
    click_text(page, ".pop-box .toggle button", "container")
    click_text(page, ".values button", scene.chain.removeprefix("/"))
    page.wait("document.querySelectorAll('.chip').length === 1")
    page.wait(READY, 60)
    assert hash_of(page)["q"] == of(scene.chain)
    found = shares(page)
    for name, share in (("spin_a", 0.6), ("spin_b", 0.3), ("compare", 0.1)):
        assert found[name] == pytest.approx(share, abs=0.07), found
    assert found["main"] > 0.95
    text = page.run("document.querySelector('.audit').innerText")
    spent = float(re.search(r"([\d.]+) s CPU time", text)[1])  # type: ignore[index]
    assert spent == pytest.approx(SECONDS, rel=0.5 if emulated() else 0.15), text


def test_pointing_and_clicking_at_a_function(page: Page, scene: Scene) -> None:
    profile(page, scene, q=of(scene.chain), view="icicle")
    at = frame_at(page, "spin_b")
    box = page.box(".flame-box")
    x, y = box["x"] + at["x"] * box["width"], box["y"] + (at["level"] + 0.5) * 19
    page.mouse("mouseMoved", x, y)
    card = page.wait("document.querySelector('.flame > .tip')?.innerText")
    assert card.splitlines()[0] == "spin_b"
    share = float(re.search(r"total\s+([\d.]+) %", card)[1])  # type: ignore[index]
    assert share == pytest.approx(30, abs=7), card
    page.mouse("mousePressed", x, y)
    page.mouse("mouseReleased", x, y)
    page.wait("location.hash.includes('at=')")
    page.wait(STILL)
    assert page.run("document.querySelector('.flame-bar').innerText").startswith("spin_b")
    click_text(page, ".flame-bar a", "callers and callees")
    page.wait("location.hash.includes('view=sandwich') && location.hash.includes('fn=spin_b')")
    page.wait("document.body.innerText.includes('Called by')")


def test_searching_finds_the_share(page: Page, scene: Scene) -> None:
    profile(page, scene, q=of(scene.chain))
    page.key("/")
    page.wait("document.activeElement.id === 'search'")
    for letter in "^spin_[ab]$":
        page.key(letter)
    text = page.wait(
        "location.hash.includes('find=') && document.querySelector('.found')?.innerText"
    )
    page.wait("document.querySelector('.found').innerText.includes('%')")
    text = page.run("document.querySelector('.found').innerText")
    assert float(text.split(" %")[0]) == pytest.approx(90, abs=6), text


def test_where_threads_wait(page: Page, scene: Scene) -> None:
    profile(page, scene, type="blocked", q=of(scene.convoy))
    found = shares(page)
    for name, share in WAITS.items():
        assert found[name] == pytest.approx(share, abs=0.05), (name, found[name])
    page.click(".pop summary")
    click_text(page, ".pop-box .toggle button", "reason")
    click_text(page, ".values button", "lock")
    page.wait("document.querySelectorAll('.chip').length === 2")
    page.wait(READY, 60)
    found = shares(page)
    assert found["want_lock"] == pytest.approx(3 / 4, abs=0.08), "the idler waits for one, too"
    assert "reader" not in found


def test_who_holds_the_lock(page: Page, scene: Scene) -> None:
    profile(page, scene, type="holder", q=of(scene.convoy))
    assert shares(page)["hold_and_sleep"] > 0.8


def test_what_is_new_since_the_time_before(page: Page, scene: Scene) -> None:
    profile(page, scene, base="previous", view="table")
    rows = page.run("[...document.querySelectorAll('.functions tbody tr')].map(r => r.innerText)")
    (row,) = [row for row in rows if re.match(r"burn\b.*\bchain", row.replace("\n", " "))]
    assert "new" in row
    assert rows.index(row) < 3, "it changed most"
    page.wait("document.querySelectorAll('.samples canvas').length === 1")


def test_every_file_can_be_taken(page: Page, scene: Scene) -> None:
    profile(page, scene, q=of(scene.chain))
    page.click(".pop:last-child summary")
    page.wait("!!document.querySelector('.menu')")
    links = page.run("[...document.querySelectorAll('.menu a')].map(a => a.href)")
    assert len(links) == 6
    for link in links:
        size = page.run(f"fetch({link!r}).then(r => r.arrayBuffer()).then(b => b.byteLength)")
        assert size > 200, link
    folded = page.run(f"fetch({next(a for a in links if 'folded' in a)!r}).then(r => r.text())")
    assert re.search(r"main;turn;deep;deeper;spin_a;", folded)


# ---- events ----


def kill_by_memory(group: Group) -> None:
    limit_memory(group)
    group.run([sys.executable, "-c", BURN + EATER])


def seen(page: Page, text: str) -> float:
    """Seconds until an event with that text is on the screen."""
    began = time.monotonic()
    rows = "[...document.querySelectorAll('.events tbody tr')]"
    page.wait(f"{rows}.some(row => row.innerText.includes({text!r}))", 30)
    return time.monotonic() - began


def test_events_are_seen_at_once_and_lead_to_their_profile(page: Page, scene: Scene) -> None:
    """A killed process and a dropped packet, live; facets; the record; its profile."""
    page.open(scene.url + "#/events?range=5m")
    page.wait("!!document.querySelector('.live-state.on')", 60)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.bind(("127.0.0.1", 0))
        sender.sendto(b"nobody listens", ("127.0.0.1", 9))
        drop = seen(page, f"127.0.0.1:{sender.getsockname()[1]}")
    with cgroup("ui-oom") as group:
        name = group.directory.name
        kill_by_memory(group)
        kill = seen(page, name)
    print(f"on the screen: a drop after {drop:.2f} s, a kill after {kill:.2f} s")
    assert max(drop, kill) < SOON
    page.open("about:blank")
    page.open(scene.url + "#/events?range=5m")
    click_text(page, ".facets a", "memory.oom")
    page.wait("document.querySelectorAll('.chip').length === 1")
    seen(page, name)
    click_text(page, ".facets a", name)  # others may have killed, too
    page.wait("document.querySelectorAll('.chip').length === 2")
    page.wait("document.querySelectorAll('.events tbody tr').length === 1")
    click_text(page, "td.title a", "memory limit")
    page.wait("!!document.querySelector('.record dl')")
    record = page.run("document.querySelector('.record').innerText")
    assert name in record
    assert "python" in record
    page.click(".record .to-profile")
    page.wait("location.hash.startsWith('#/profiles')")
    assert hash_of(page)["q"] == of(f"/{name}")
    page.wait(READY, 60)
    assert page.run("document.querySelector('.audit').innerText")


# ---- the other pages ----


@pytest.mark.parametrize(("width", "dark"), [(1440, False), (390, True)], ids=["wide", "narrow"])
def test_every_page_shows_this_machine(page: Page, scene: Scene, width: int, dark: bool) -> None:
    page.resize(width, 3000)
    page.theme(dark)
    span = urlencode({"from": iso(scene.began * 1e9), "to": iso(scene.ended * 1e9)})
    wait = "name=huatuo_cpu_sched_wait_seconds"
    expected = {
        f"#/?{span}": "Waiting for a CPU",
        f"#/containers?{span}": scene.chain.removeprefix("/"),
        f"#/container?name={scene.chain}&{span}": "spin_a",
        f"#/events?{span}": "Events",
        f"#/explore?{wait}&{span}": "Copy PromQL",
        "#/probes": "profile.cpu",
    }
    for path, text in expected.items():
        page.open("about:blank")
        page.open(scene.url + path)
        if path.startswith("#/container?"):
            page.wait("!!document.querySelector('.small-profile .bars a')", 60)
            assert shares(page)["spin_a"] == pytest.approx(0.6, abs=0.07)
        else:
            page.wait(f"document.body.innerText.includes({text!r})", 60)
        page.wait("!document.body.innerText.includes('Loading')", 60)
        assert page.run("document.documentElement.scrollWidth") <= width, path
        for nonsense in ("undefined", "NaN", "[object"):
            assert nonsense not in page.text(), path


def test_probes_say_what_runs_and_what_does_not(page: Page, scene: Scene) -> None:
    page.open(scene.url + "#/probes")
    page.wait("document.querySelectorAll('.probes tbody tr').length > 10")
    rows: dict[str, str] = page.run(
        "Object.fromEntries([...document.querySelectorAll('.probes tbody tr')]"
        ".map(r => [r.querySelector('b').innerText, r.innerText]))"
    )
    assert "running" in rows["profile.cpu"]
    assert "running" in rows["profile.blocked"]
    assert "iter/task" in rows["profile.blocked"]
    assert "on demand" in rows["profile.resident"]
    states: list[dict[str, Any]] = scene.running.get("/api/v1/probes")
    for state in states:
        for note in state["notes"]:
            assert note in rows[state["name"]]
    page.run(
        "[...document.querySelectorAll('table a')].find(a => a.href.includes('type=cpu')).click()"
    )
    page.wait("location.hash.startsWith('#/profiles')")
    page.wait(READY, 60)


def test_a_profiler_that_is_slowed_down_is_seen(
    page: Page,
    tmp_path: Path,
    scene: Scene,  # noqa: ARG001  (skips where there are no profiles)
) -> None:
    """An agent whose profilers may cost next to nothing."""
    budget = '[governor]\ncpu = "90%"\nprofiling = "0.001%"\nmemory = "4GiB"\n'
    config = f'{budget}every = "2s"\nwindow = "500ms"\n[agent]\ninterval = "1s"\n'
    load = subprocess.Popen([sys.executable, "-c", BURN.replace("+ 1", "+ 40")])
    try:
        with agent(tmp_path / "store", config) as running:
            assert eventually(lambda: running.state("profile.cpu")["pace_ratio"] < 1, 60)
            url = f"http://{running.address}/"
            page.open(url + "#/probes?range=5m")
            page.wait("document.body.innerText.includes('slowed profile.cpu')", 60)
            assert "slowed" in page.run("document.querySelector('.pane').ariaLabel")
            page.wait("document.body.innerText.includes('of its rate')", 60)
            slowed = "document.body.innerText.includes('profile.cpu was slowed down to')"

            def told() -> bool:
                """The page shows what was stored when it was opened: the decision is newer."""
                page.open("about:blank")
                page.open(url + "#/profiles?range=5m&type=cpu")
                page.wait(READY, 60)
                return bool(page.run(slowed))

            assert eventually(told, 60)
            page.open("about:blank")
    finally:
        load.kill()
        load.wait()
