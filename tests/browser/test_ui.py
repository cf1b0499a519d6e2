"""The web UI as a user has it: pages render, links lead on, nothing else is contacted."""

from __future__ import annotations

import time
from collections import Counter

import pytest

from tests.browser.chromium import Browser, Page
from tests.browser.conftest import Site, served_with_token
from tests.browser.profiles import stacks

PAGES = {
    "node": ("#/", "Waiting for a CPU"),
    "containers": ("#/containers", "Who waits for whom"),
    "tree": ("#/containers?view=tree", "kubepods"),
    "container": ("#/container?name=pg-0", "Waits for a CPU because of"),
    "events": ("#/events?range=1h", "net.drop"),
    "record": ("#/events?range=1h&id=1", "Fields"),
    "profiles": ("#/profiles", "complete stacks"),
    "sandwich": ("#/profiles?view=sandwich", "Called by"),
    "functions": ("#/profiles?view=table&base=previous&range=5m", "Self, change"),
    "incidents": ("#/incidents?range=1h", "contention"),
    "incident": ("#/incidents?range=1h&id=1", "compress_block"),
    "probes": ("#/probes", "What the governor did"),
    "explore": ("#/explore?name=huatuo_cpu_sched_wait_seconds", "Copy PromQL"),
}
DRAWN = "document.querySelectorAll('canvas').length > 3"
SETTLED = "!document.body.innerText.includes('Loading') && !!document.querySelector('main h1')"


def shown(page: Page, text: str) -> None:
    page.wait(f"document.body.innerText.includes({text!r})")


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize(("width", "dark"), [(1440, False), (390, True)], ids=["wide", "narrow"])
def test_a_page_renders(name: str, width: int, dark: bool, page: Page, site: Site) -> None:
    path, text = PAGES[name]
    page.resize(width, 3000)
    page.theme(dark)
    page.open(site.url + path)
    shown(page, text)
    page.wait(SETTLED)
    assert page.run("document.querySelectorAll('h1').length") == 1
    assert page.run("document.documentElement.scrollWidth") <= width
    unnamed = "[...document.querySelectorAll('a,button,input,select')].filter(e =>"
    unnamed += " !(e.innerText || e.ariaLabel || e.title || e.labels?.length)).length"
    assert page.run(unnamed) == 0


@pytest.mark.parametrize(
    "path", ["#/", "#/containers", "#/events", "#/profiles", "#/incidents", "#/probes", "#/explore"]
)
def test_an_empty_node_says_so(path: str, page: Page, empty_site: Site) -> None:
    page.resize(1440, 3000)
    page.open(empty_site.url + path)
    page.wait(SETTLED)
    assert "undefined" not in page.text()
    assert "NaN" not in page.text()


def test_first_paint(page: Page, site: Site) -> None:
    times = []
    for _ in range(5):
        page.open("about:blank")
        page.open(site.url)
        page.wait("performance.getEntriesByName('first-contentful-paint').length > 0")
        page.wait(DRAWN)
        script = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
        times.append(page.run(script))
    print(f"first paint: {', '.join(f'{t:.0f}' for t in times)} ms")


def test_from_the_verdict_to_the_container_and_back(page: Page, site: Site) -> None:
    page.open(site.url)
    page.wait(DRAWN)
    page.click(".worst a")
    shown(page, "Waits for a CPU because of")
    name = page.run("new URLSearchParams(location.hash.split('?')[1]).get('name')")
    assert page.run("document.querySelector('h1').innerText") == name
    page.key("Escape")
    shown(page, "Newest events")


def test_dragging_zooms_every_panel_and_live_returns(page: Page, site: Site) -> None:
    page.open(site.url)
    page.wait(DRAWN)
    page.drag("#row-cpu .over", 0.25, 0.5)
    page.wait("location.hash.includes('from=') && location.hash.includes('to=')")
    shown(page, "in the selected time")
    page.wait(DRAWN)
    page.click(".go-live")
    page.wait("location.hash.includes('range=')")
    shown(page, "in the last minute")


def test_a_cell_leads_to_the_events_of_its_time(page: Page, site: Site) -> None:
    page.open(site.url)
    page.wait(DRAWN)
    page.click("#row-disk .over")
    page.wait("location.hash.startsWith('#/events')")
    assert "probe=block.latency" in page.run("location.hash")


def test_hovering_says_count_and_range(page: Page, site: Site) -> None:
    page.open(site.url)
    page.wait(DRAWN)
    box = page.box("#row-cpu .over")
    page.mouse("mouseMoved", box["x"] + box["width"] * 0.8, box["y"] + box["height"] * 0.6)
    tip = page.wait("document.querySelector('.tip')?.innerText")
    assert "took" in tip
    assert "p99" in tip


def test_an_incident_is_read_and_a_capture_is_asked_for(page: Page, site: Site) -> None:
    page.open(site.url + "#/incidents?range=1h")
    shown(page, "contention")
    page.click("table.incident-list a")
    shown(page, "First among those who may have caused it: etl-7")
    shown(page, "compress_block")
    asked = len(site.node.tracing.jobs)
    page.click(".capture button")
    shown(page, "queued")
    assert len(site.node.tracing.jobs) == asked + 1
    page.key("Escape")
    page.wait("!location.hash.includes('id=')")


def test_an_event_is_seen_within_two_seconds(page: Page, site: Site) -> None:
    page.open(site.url + "#/events")
    shown(page, "live")
    page.wait("!!document.querySelector('.live-state.on')")
    event = site.node.event(time.time_ns())
    began = time.monotonic()
    stored = site.publish(event)
    page.wait(
        f"[...document.querySelectorAll('td.title a')].some(a => a.href.includes('id={stored.id}'))"
    )
    print(f"on the screen after {time.monotonic() - began:.2f} s")
    assert time.monotonic() - began < 2


def test_facets_narrow_down_and_a_record_opens(page: Page, site: Site) -> None:
    page.open(site.url + "#/events?range=1h")
    page.wait("document.querySelectorAll('.facets a').length > 3")
    page.click(".facets a")
    page.wait("document.querySelectorAll('.chip').length === 1")
    page.click("td.title a")
    shown(page, "neighbours")
    page.key("Escape")
    page.wait("!document.querySelector('.record')")
    page.click(".chip")
    page.wait("document.querySelectorAll('.chip').length === 0")


def test_keys(page: Page, site: Site) -> None:
    page.open(site.url)
    page.wait(DRAWN)
    page.key("?")
    shown(page, "How to use this")
    page.key("Escape")
    page.wait("!document.querySelector('dialog')")
    for number, word in (("2", "Who waits"), ("6", "governor"), ("4", "complete"), ("3", "live")):
        page.key(number)
        shown(page, word)
    page.key("/")
    page.wait("document.activeElement.id === 'search'")


def test_a_container_says_what_runs_in_it_and_what_happened_to_it(page: Page, site: Site) -> None:
    page.resize(1440, 3000)
    page.open(site.url + "#/container?range=1h&name=pg-0")
    page.wait("document.querySelectorAll('.processes tbody tr').length === 12")
    facts = " ".join(page.run("document.querySelector('.facts').innerText").split())
    for words in (
        "of 4.00 CPU",
        "of 2 GiB",
        "python 3.11 17 processes",
        ":5432/tcp, 127.0.0.1:8125",
    ):
        assert words in facts
    rows = page.run("[...document.querySelectorAll('.processes tbody tr')].map(r => r.innerText)")
    assert "--password=***" in rows[2]
    indents = page.run(
        "[...document.querySelectorAll('.processes td:first-child')].slice(0, 4)"
        ".map(cell => parseInt(cell.style.paddingLeft))"
    )
    assert indents == [10, 24, 38, 24]
    page.run(
        "document.querySelector('.processes').closest('section').querySelector('button').click()"
    )
    page.wait("document.querySelectorAll('.processes tbody tr').length === 17")
    assert page.run("document.querySelectorAll('.events thead th').length") == 4  # no Container
    page.wait("document.querySelectorAll('.events tbody tr').length === 6")
    page.run("document.querySelector('.incidents-of a').click()")
    shown(page, "compress_block")


def test_who_is_suspected_is_told_of_the_incident(page: Page, site: Site) -> None:
    page.resize(1440, 3000)
    page.open(site.url + "#/container?range=1h&name=etl-7")
    page.wait("!!document.querySelector('.incidents-of .badge')")
    assert page.run("document.querySelector('.incidents-of .badge').innerText") == "suspected"
    page.open(site.url + "#/container?range=1h&name=web-1")
    page.wait(SETTLED)
    assert not page.run("!!document.querySelector('.incidents-of')")


def test_an_event_says_what_its_process_was(page: Page, site: Site) -> None:
    page.open(site.url + "#/events?range=1h&probe=block.latency")
    page.wait("!!document.querySelector('.events td.title a')")
    page.run("document.querySelector('.events td.title a').click()")
    page.wait("!!document.querySelector('.ancestors')")
    text = " ".join(page.run("document.querySelector('.record dl').innerText").split())
    assert "command postgres: worker 3" in text
    assert "started 16.7 min before" in text
    assert "started by postgres 4711 postgres -D /var/lib" in text


def test_a_container_has_its_profile_in_small(page: Page, site: Site) -> None:
    page.open(site.url + "#/container?range=1h&name=pg-0")
    page.wait("!!document.querySelector('.small-profile .bars a')")
    assert page.run("document.querySelector('main').firstElementChild.className") == "crumbs"
    first = page.run("document.querySelector('.small-profile .bars a').innerText")
    totals = Counter[str]()
    for path, value in stacks(site.node, container="pg-0").items():
        totals[path[-1].split(" ")[0]] += value
    assert first == totals.most_common(1)[0][0]
    shown(page, "% of CPU time · 0 lost")
    page.run(
        "(s => { s.value = 'blocked'; s.dispatchEvent(new Event('change', {bubbles: true})); })"
        "(document.querySelector('.row select'))"
    )
    shown(page, "slowed down to 50 %")
    page.run("document.querySelector('.row .filters a').click()")
    page.wait("location.hash.startsWith('#/profiles')")
    assert "blocked" in page.run("location.hash")
    shown(page, "time off the CPU")


def test_what_the_governor_did_is_said_and_drawn(page: Page, site: Site) -> None:
    page.open(site.url + "#/probes?range=15m")
    page.wait("document.querySelectorAll('.decisions li').length === 3")
    text = page.run("document.querySelector('.decisions').innerText")
    for words in ("sped up profile.cpu", "slowed profile.cpu", "paused cpu.softirq"):
        assert words in " ".join(text.split())
    lanes = page.run("document.querySelector('.pane').ariaLabel")
    assert lanes == "decisions over time: 1 sped up, 1 slowed, 1 paused"
    (slow,) = [
        row
        for row in page.run(
            "[...document.querySelectorAll('.probes tbody tr')].map(r => r.innerText)"
        )
        if row.startswith("profile.blocked")
    ]
    assert "slowed down to 50 % of its rate" in slow
    page.run(
        "[...document.querySelectorAll('table a')].find(a => a.href.includes('profiles')).click()"
    )
    page.wait("location.hash.includes('profiles') && location.hash.includes('type=blocked')")


def test_a_token_is_asked_for_and_kept(browser: Browser) -> None:
    for guarded in served_with_token():
        page = browser.page()
        page.open(guarded.url)
        shown(page, "asks for its token")
        page.run("document.querySelector('input[name=token]').value = 's3cret'")
        page.run("document.querySelector('form.token button').click()")
        shown(page, "Waiting for a CPU")
        page.close()
