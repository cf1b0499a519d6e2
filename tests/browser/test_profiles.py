"""The profiles page as a user has it. Numbers are compared with sums made here from the samples."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest

from huatuo.model.profile import Stack
from tests.browser.chromium import Browser, Page
from tests.browser.conftest import Site, served_with_token
from tests.serve.fake_node import FakeNode

READY = "!!document.querySelector('.flame-bar, .functions tbody tr') && !document.querySelector('.stale')"
# Nothing glides any more: longer than a glide takes.
STILL = "new Promise(resume => setTimeout(() => resume(true), 400))"
ROW = 19
Path = tuple[str, ...]


@pytest.fixture(autouse=True)
def clean(page: Page) -> Iterator[None]:
    yield
    assert page.problems == []
    foreign = [u for u in page.requests if not u.startswith(("http://127.0.0.1:", "about:", "blob:"))]
    assert foreign == []


def iso(time_ns: float) -> str:
    text = datetime.fromtimestamp(time_ns / 1e9, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def opened(page: Page, site: Site, **params: str) -> None:
    """The page over all samples of the last half hour, or with other parameters."""
    start, end = site.node.profiled
    page.open("about:blank")
    all_of_it = {"from": iso(start - 1e6), "to": iso(end + 1e9)}
    page.open(f"{site.url}#/profiles?{urlencode(all_of_it | params)}")
    page.wait(READY)


def hash_of(page: Page) -> dict[str, str]:
    found: dict[str, str] = page.run(
        "Object.fromEntries(new URLSearchParams(location.hash.split('?')[1]))"
    )
    return found


def stacks(node: FakeNode, type_: str = "cpu", container: str = "") -> Counter[Path]:
    """Value of each stack of functions, outermost first, straight from the last half hour's samples."""
    start, end = node.profiled
    found: Counter[Path] = Counter()
    for batch in node.profiles._batches:
        if batch.type != type_ or (container and batch.labels[0]["container"] != container):
            continue
        mask = (batch.times >= start) & (batch.times <= end)
        sums = np.bincount(batch.stack_of[mask], batch.values[mask], len(batch.stacks))
        for index in np.flatnonzero(sums):
            found[names_of(batch.stacks[index])] += int(sums[index])
    return found


def names_of(stack: Stack) -> Path:
    return tuple(
        f"{line.function} {location.mapping}"
        for location in reversed(stack.locations)
        for line in reversed(location.lines)
    )


def module(page: Page, name: str, body: str) -> Any:
    """Runs `body` with the UI's module `name` as `m` and the tree that the page shows as `answer`."""
    start = "const m = await import(document.querySelector(`link[href$='lib/%s.js']`).href);" % name
    answer = (
        "const url = [...document.querySelectorAll('.menu a')].at(-1).href;"
        "const answer = await (await fetch(url)).json();"
    )
    if "answer" in body:
        page.run("document.querySelector('details:last-of-type:has(.menu)').open = true")
    return page.run(f"(async () => {{ {start} {answer if 'answer' in body else ''} {body} }})()")


def hover(page: Page, share: float, level: int, downward: bool = True) -> str:
    """What the card says about the frame at a share of the width, on a level below the root."""
    page.mouse("mouseMoved", 2, 2)
    box = page.box(".flame-box")
    y = box["y"] + (level + 0.5) * ROW if downward else box["y"] + box["height"] - (level + 0.5) * ROW
    page.mouse("mouseMoved", box["x"] + box["width"] * share, y)
    return str(page.wait("document.querySelector('.flame > .tip')?.innerText"))


# ---- what is shown is what was measured ----


def test_the_table_adds_up_to_the_samples(page: Page, site: Site) -> None:
    opened(page, site, view="table")
    self_, total = Counter[str](), Counter[str]()
    for path, value in stacks(site.node).items():
        self_[path[-1]] += value
        for name in set(path):
            total[name] += value
    rows = page.run(
        "[...document.querySelectorAll('.functions tbody tr')].slice(0, 20)"
        ".map(r => [...r.cells].map(c => c.innerText.replace(/\\s+/g, ' ')))"
    )
    whole = sum(self_.values())
    assert [row[0] for row in rows[:5]] == [name for name, _ in self_.most_common(5)]
    for name, own, all_ in rows:
        assert float(own.split(" %")[0]) == pytest.approx(100 * self_[name] / whole, abs=0.051)
        assert float(all_.split(" %")[0]) == pytest.approx(100 * total[name] / whole, abs=0.051)


def test_the_tree_from_the_leaves_adds_up(page: Page, site: Site) -> None:
    opened(page, site)
    first, second = Counter[str](), Counter[str]()
    for path, value in stacks(site.node).items():
        first[path[-1]] += value
        second[" < ".join(path[:-3:-1])] += value
    found = module(page, "calltree", """
        const t = m.inverted(m.treeOf(answer));
        const name = (n) => `${t.frames[t.frame[n]].name} ${t.frames[t.frame[n]].mapping}`;
        const out = {first: {}, second: {}, total: t.total[0]};
        for (let n = 1; n < t.size; n += 1) {
          if (t.parent[n] === 0) out.first[name(n)] = t.total[n];
          else if (t.parent[t.parent[n]] === 0) out.second[`${name(t.parent[n])} < ${name(n)}`] = t.total[n];
        }
        return out;""")  # fmt: skip
    assert found["total"] == sum(first.values())
    assert found["first"] == first
    assert len(found["second"]) > 100
    for pair, value in found["second"].items():
        assert value == second[pair]


def test_the_halves_of_a_sandwich_add_up(page: Page, site: Site) -> None:
    """do_syscall_64 is called from everywhere; likely_header stands above itself at times."""
    opened(page, site)
    for name in ("do_syscall_64 [vmlinux]", "likely_header postgres"):
        callers, callees, whole = Counter[str](), Counter[str](), 0
        for path, value in stacks(site.node).items():
            if name in path:
                at = path.index(name)
                whole += value
                callers[path[at - 1]] += value
                if at + 1 < len(path):
                    callees[path[at + 1]] += value
        found = module(page, "calltree", f"""
            const t = m.treeOf(answer);
            const f = t.frames.findIndex((one) => `${{one.name}} ${{one.mapping}}` === {json.dumps(name)});
            const level = (t) => Object.fromEntries([...t.parent].flatMap((p, n) => p === 0
              ? [[`${{t.frames[t.frame[n]].name}} ${{t.frames[t.frame[n]].mapping}}`, t.total[n]]] : []));
            const [up, down] = [m.callersOf(t, f), m.calleesOf(t, f)];
            return [level(up), level(down), up.total[0], down.total[0]];""")  # fmt: skip
        assert found == [callers, callees, whole, whole]


def test_search_tells_the_share_of_the_samples(page: Page, site: Site) -> None:
    opened(page, site)
    page.key("/")
    page.wait("document.activeElement.id === 'search'")
    for letter in "^vfs_(read|write)$":
        page.key(letter)
    text = page.wait("document.querySelector('.found')?.innerText.includes('frames')") and page.run(
        "document.querySelector('.found').innerText"
    )
    page.wait("location.hash.includes('write')")
    fits = re.compile("^vfs_(read|write) ")
    found = stacks(site.node)
    inside = sum(value for path, value in found.items() if any(map(fits.match, path)))
    nodes = {path[: i + 1] for path in found for i, name in enumerate(path) if fits.match(name)}
    text = page.run("document.querySelector('.found').innerText")
    assert text == f"{100 * inside / sum(found.values()):.1f} % in {len(nodes)} frames"


def test_what_is_no_expression_is_searched_as_text(page: Page, site: Site) -> None:
    opened(page, site, find="Start(int")
    text = page.run("document.querySelector('.found').innerText")
    assert text.endswith("in 1 frame as plain text")


# ---- moving about ----


def test_a_click_zooms_the_link_leads_there_and_escape_back(page: Page, site: Site) -> None:
    opened(page, site, view="icicle", q='{container="pg-0"}')
    wide = hover(page, 0.5, 6)
    assert wide.splitlines()[0] != hover(page, 0.01, 6).splitlines()[0]
    box = page.box(".flame-box")
    for kind in ("mousePressed", "mouseReleased"):
        page.mouse(kind, box["x"] + box["width"] * 0.5, box["y"] + 6.5 * ROW)
    page.wait("location.hash.includes('at=')")
    name = wide.splitlines()[0]
    assert name in page.run("document.querySelector('.flame-bar').innerText")
    link = page.run("location.href")
    page.open("about:blank")
    page.open(link)
    page.wait(READY)
    page.wait(STILL)
    row = page.run(f"Math.round((6 * {ROW} - document.querySelector('.flame-box').scrollTop) / {ROW})")
    assert [hover(page, x, row).splitlines()[0] for x in (0.01, 0.99)] == [name, name]
    page.run("document.querySelector('.flame-box').focus()")
    page.key("Escape")
    page.wait("!location.hash.includes('at=')")


def test_the_wheel_zooms_with_ctrl_and_scrolls_without(page: Page, site: Site) -> None:
    opened(page, site, view="icicle")
    left, right = (hover(page, x, 2).splitlines()[0] for x in (0.02, 0.98))
    assert (left, right) == ("PostmasterMain", "node::Start(int, char**)")
    box = page.box(".flame-box")
    at = {"x": box["x"] + 10, "y": box["y"] + 60, "deltaX": 0}
    page.call("Input.dispatchMouseEvent", type="mouseWheel", deltaY=100, **at)
    page.wait("document.querySelector('.flame-box').scrollTop > 50")
    assert hover(page, 0.98, 2).splitlines()[0] != "node::Start(int, char**)"
    page.run("document.querySelector('.flame-box').scrollTop = 0")
    for _ in range(8):
        page.call("Input.dispatchMouseEvent", type="mouseWheel", deltaY=-120, modifiers=2, **at)
    assert hover(page, 0.98, 2).splitlines()[0] == "PostmasterMain"
    page.run("document.querySelector('.flame-box').focus()")
    page.key("Escape")
    page.wait(STILL)
    assert hover(page, 0.98, 2).splitlines()[0] == "node::Start(int, char**)"


def test_the_keys_walk_and_zoom(page: Page, site: Site) -> None:
    opened(page, site)
    page.run("document.querySelector('.flame-box').focus()")
    bar = "document.querySelector('.flame-bar').innerText"
    for key, name in (("ArrowUp", "__libc_start_main"), ("ArrowUp", "PostmasterMain"),
                      ("ArrowRight", "Py_BytesMain"), ("ArrowUp", "_PyEval_EvalFrameDefault"),
                      ("ArrowDown", "Py_BytesMain"), ("ArrowLeft", "PostmasterMain")):  # fmt: skip
        page.key(key)
        page.wait(f"{bar}.startsWith('{name}')")
    page.key("Enter")
    page.wait("location.hash.includes('at=2.')")
    page.wait(STILL)
    assert hover(page, 0.99, 2, downward=False).splitlines()[0] == "PostmasterMain"
    page.key("s")
    page.wait("location.hash.includes('view=sandwich') && location.hash.includes('fn=PostmasterMain')")


def test_every_view_has_its_address(page: Page, site: Site) -> None:
    opened(page, site)
    for number, name in enumerate(("icicle", "inverted", "sandwich", "table"), 2):
        page.click(f".toggle a:nth-child({number})")
        page.wait(f"location.hash.includes('view={name}')")
        page.wait(READY)
        assert page.run("document.querySelector('.toggle a[aria-current]').innerText.toLowerCase()") == name


# ---- time ----


def test_brushing_chooses_a_time_and_leads_back(page: Page, site: Site) -> None:
    opened(page, site, range="1h", **{"from": "", "to": ""})
    whole = page.run("document.querySelector('.audit').innerText")
    page.drag(".samples .over", 0.75, 0.8)
    page.wait("location.hash.includes('from=')")
    page.wait(f"{READY} && document.querySelector('.audit').innerText !== {json.dumps(whole)}")
    chosen = hash_of(page)
    length = datetime.fromisoformat(chosen["to"]) - datetime.fromisoformat(chosen["from"])
    assert length.total_seconds() == pytest.approx(0.05 * 3600, abs=35)
    page.drag(".samples .over", 0.85, 0.9)  # the picture still shows the whole hour
    page.wait(f"!location.hash.includes({json.dumps(urlencode({'f': chosen['from']})[2:])})")
    assert hash_of(page)["around"] == chosen["around"]
    page.click(".when a")
    page.wait("location.hash.includes('range=1h') && !location.hash.includes('from=')")


def test_a_click_chooses_one_column(page: Page, site: Site) -> None:
    opened(page, site)
    page.click(".samples .over")
    page.wait("location.hash.includes('around=')")
    chosen = hash_of(page)
    length = datetime.fromisoformat(chosen["to"]) - datetime.fromisoformat(chosen["from"])
    assert length.total_seconds() == 10
    page.wait(READY)
    text = page.run("document.querySelector('.audit').innerText")
    start, end = (datetime.fromisoformat(chosen[side]).timestamp() * 1e9 for side in ("from", "to"))
    samples = sum(
        int(((batch.times >= start) & (batch.times <= end)).sum())
        for batch in site.node.profiles._batches
        if batch.type == "cpu"
    )
    assert f"{samples} samples" in text


def test_the_present_stands_still_until_asked(page: Page, site: Site) -> None:
    page.open(site.url + "#/profiles")
    page.wait(READY)
    asked = len([url for url in page.requests if "/flame?" in url])
    page.click(".as-of button")
    page.wait("performance.getEntriesByType('resource').filter(e => e.name.includes('/flame?')).length > 1")
    assert len([url for url in page.requests if "/flame?" in url]) == asked + 1


# ---- comparing ----


def fifth(site: Site) -> dict[str, str]:
    """The last fifth of the history, in which hot_regression runs."""
    start, end = site.node.profiled
    return {"from": iso(end - (end - start) / 5), "to": iso(end)}


def test_a_difference_finds_what_is_new_and_what_is_gone(page: Page, site: Site) -> None:
    opened(page, site, view="table", base="previous", **fifth(site))
    rows = page.run("[...document.querySelectorAll('.functions tbody tr')].slice(0, 12).map(r => r.innerText)")
    changes = {name: row for row in rows for name in ("hot_regression", "gone_by_now") if name in row}
    assert "new" in changes["hot_regression"]
    assert "+" in changes["hot_regression"]
    assert "gone" in changes["gone_by_now"]
    assert "−" in changes["gone_by_now"]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_more_is_red_and_less_is_blue(page: Page, site: Site, dark: bool) -> None:
    page.theme(dark)
    opened(page, site, view="icicle", base="previous", q='{container="etl-7"}', **fifth(site))
    colors = {}
    for name in ("hot_regression", "gone_by_now"):
        found = (hover(page, x / 150, 6) for x in range(150))
        share = next(x / 150 + 0.003 for x, text in enumerate(found) if text.startswith(name))
        assert "before" in page.run("document.querySelector('.flame > .tip').innerText")
        colors[name] = page.run(
            "(() => { const c = document.querySelector('.flame canvas');"
            f"return [...c.getContext('2d').getImageData(c.width * {share}, 6 * {ROW} + 15, 1, 1).data]; }})()"
        )
    red, _, blue, _ = colors["hot_regression"]
    assert red > blue + 60
    red, _, blue, _ = colors["gone_by_now"]
    assert blue > red + 60


def test_a_brushed_time_is_compared_with(page: Page, site: Site) -> None:
    opened(page, site, **fifth(site))
    page.run(
        "(() => { const s = document.querySelector('select[aria-label=\"Compare with\"]');"
        "s.value = 'brush'; s.dispatchEvent(new Event('change', {bubbles: true})); })()"
    )
    page.wait("document.body.innerText.includes('Drag over the picture')")
    before = hash_of(page)
    page.drag(".samples .over", 0.1, 0.3)
    page.wait("location.hash.includes('base=2')")
    page.wait("document.body.innerText.includes('by share')")
    page.wait(READY)
    assert hash_of(page)["from"] == before["from"]
    assert "before" in hover(page, 0.5, 1, downward=False)


def test_nothing_to_compare_with_is_said(page: Page, site: Site) -> None:
    start, _ = site.node.profiled
    early = {"from": iso(start), "to": iso(start + 60e9)}
    opened(page, site, base="previous", **early)
    page.wait("document.querySelector('.caution')?.innerText.includes('nothing to compare with')")


def test_other_samples_are_compared_by_share(page: Page, site: Site) -> None:
    opened(page, site, base="selector", base_q='{container="pg-0"}', q='{container="etl-7"}', view="icicle")
    card = hover(page, 0.5, 0)
    assert "same" in card  # all of one is as much as all of the other


# ---- filters, states, ways out ----


def test_labels_become_chips_and_go_again(page: Page, site: Site) -> None:
    opened(page, site)
    page.click(".pop summary")
    page.wait("document.querySelectorAll('.values button').length === 4")
    page.click(".values button")
    page.wait("document.querySelectorAll('.chip').length === 1")
    assert hash_of(page)["q"] == '{container="etl-7"}'
    page.wait(READY)
    value = sum(stacks(site.node, container="etl-7").values()) / 1e9
    text = page.run("document.querySelector('.audit').innerText")
    assert float(text.split(" min")[0]) == pytest.approx(value / 60, rel=0.01)
    page.click(".chip")
    page.wait("!location.hash.includes('q=') && document.querySelectorAll('.chip').length === 0")


def test_a_selector_may_be_written(page: Page, site: Site) -> None:
    opened(page, site)
    page.click(".pop summary")
    submit = "(v => { const f = document.querySelector('form.selector'); f.q.value = v; f.requestSubmit(); })"
    page.run(submit + "('{container=')")
    page.wait("document.querySelector('.selector [role=alert]')?.innerText.includes('Not a selector')")
    page.run(submit + """('comm=~"p.*", pid!="811"')""")
    page.wait("document.querySelectorAll('.chip').length === 2")
    assert hash_of(page)["q"] == '{comm=~"p.*",pid!="811"}'


def test_selectors_are_read_and_written_alike(page: Page, site: Site) -> None:
    opened(page, site)
    texts = ['{a="x"}', '{a="x\\"y\\\\z",b!~"(c|d)\\\\.e"}', '{a="line\\nbreak, {brace}"}', ""]
    both = module(page, "selector", f"return {json.dumps(texts)}.map((t) => m.write(m.parse(t)));")
    assert both == texts
    wrong = ["{a}", '{a="b}', '{="b"}', '{a="b" c="d"}', "junk", '{a=~b}']
    assert module(page, "selector", f"return {json.dumps(wrong)}.map(m.parse);") == [None] * len(wrong)


def test_no_samples_say_why_and_what_there_is(page: Page, site: Site) -> None:
    page.open(site.url + "#/profiles?type=lock")
    page.wait("document.querySelector('.nothing')?.innerText.includes('Types with samples')")
    text = page.run("document.querySelector('.nothing').innerText")
    assert "profile.lock is not available: this kernel has no sleepable task iterator" in text
    page.run("[...document.querySelectorAll('.nothing a')].find(a => a.innerText === 'CPU time').click()")
    page.wait(READY)
    page.open(site.url + "#/profiles?type=cpu&q=" + "%7Bcontainer%3D%22nobody%22%7D")
    page.wait("document.querySelector('.nothing')?.innerText.includes('Remove the filter')")
    page.run("[...document.querySelectorAll('.nothing a')].find(a => a.innerText.startsWith('Remove')).click()")
    page.wait(READY)


def test_a_wrong_selector_in_the_address_is_explained(page: Page, site: Site) -> None:
    page.open(site.url + "#/profiles?type=cpu&q=junk")
    page.wait("document.querySelector('.state.wrong')?.innerText.includes('not a selector')")
    page.click(".chip")
    page.wait(READY)
    page.problems[:] = [one for one in page.problems if "status of 400" not in one]


def test_the_audit_line_warns_when_it_does_not_add_up(page: Page, site: Site) -> None:
    opened(page, site, type="blocked")
    assert "threads that blocked for less" in page.run("document.querySelector('.caution').innerText")
    assert "71.0 %" in page.run("document.querySelector('.audit .wrong').innerText")
    opened(page, site)
    text = page.run("document.querySelector('.audit').innerText")
    assert re.search(r"99\.\d % complete stacks · adds up to 98\.9 % of CPU time · 0 lost", text)
    titles = page.run("[...document.querySelectorAll('.audit span')].map(s => s.title).join(' ')")
    assert "no_rows: the code's unwind rows were not there yet" in titles


def test_every_format_can_be_taken_away(page: Page, site: Site) -> None:
    opened(page, site, q='{container="etl-7"}')
    links = page.run("[...document.querySelectorAll('.menu a')].map(a => a.href)")
    formats = {re.search(r"format=(\w+)", link)[1] for link in links if "format=" in link}  # type: ignore[index]
    assert formats == {"pprof", "folded", "speedscope", "firefox", "otlp"}
    assert all("type=cpu" in link and "etl-7" in link and "start=" in link for link in links)
    for link in links:
        assert page.run(f"fetch({json.dumps(link)}).then(r => r.status)") == 200


def test_files_are_fetched_with_the_token(browser: Browser) -> None:
    for guarded in served_with_token():
        page = browser.page()
        page.open(guarded.url)
        page.wait("!!document.querySelector('input[name=token]')")
        page.run("sessionStorage.setItem('huatuo-token', 's3cret')")
        page.run("location.hash = '#/profiles'; location.reload()")
        page.wait(READY)
        page.run(
            "document.querySelector('.menu').addEventListener('click', (e) => { window.asked = e.target.closest('a'); });"
            "HTMLAnchorElement.prototype.click = function () { window.saved = [this.download, this.href]; };"
            "document.querySelector('.menu a').dispatchEvent(new MouseEvent('click', {bubbles: true, cancelable: true}))"
        )
        name, href = page.wait("window.saved")
        assert name == "profile.pprof.txt"
        assert href.startswith("blob:")
        page.close()


# ---- ways in ----


def test_an_event_leads_to_the_profile_of_its_moment(page: Page, site: Site) -> None:
    page.open(site.url + "#/events?range=1h&id=1")
    page.wait("!!document.querySelector('.record .to-profile')")
    event = page.run("fetch('api/v1/events/1').then(r => r.json())")
    page.click(".record .to-profile")
    page.wait("location.hash.startsWith('#/profiles')")
    where = hash_of(page)
    time = datetime.fromisoformat(re.sub(r"(\.\d{6})\d*Z", r"\1+00:00", event["time"]))
    middle = datetime.fromisoformat(where["from"]).timestamp() + 30
    assert middle == pytest.approx(time.timestamp(), abs=0.01)
    assert datetime.fromisoformat(where["to"]).timestamp() - middle == pytest.approx(30, abs=0.01)
    assert where["q"] == f'{{container="{event["container"]["name"]}"}}'


@pytest.mark.parametrize(
    ("path", "link", "type_", "container"),
    [
        ("#/", "#row-cpu .chart .to-profile", "cpu", ""),
        ("#/container?name=pg-0", ".row .to-profile", "cpu", "pg-0"),
        ("#/container?name=pg-0", "h1 .to-profile", "", "pg-0"),
        ("#/events?range=1h", "td.title .to-profile", "", "?"),
        ("#/?{all}", ".worst .to-profile", "", "?"),
    ],
)
def test_a_panel_leads_to_its_profile(
    page: Page, site: Site, path: str, link: str, type_: str, container: str
) -> None:
    page.resize(1440, 3000)
    span = urlencode(dict(zip(("from", "to"), map(iso, site.node.profiled), strict=True)))
    page.open(site.url + path.replace("{all}", span))
    page.wait(f"!!document.querySelector({json.dumps(link)})")
    page.run(f"document.querySelector({json.dumps(link)}).click()")  # panels still move
    page.wait("location.hash.startsWith('#/profiles')")
    where = hash_of(page)
    assert where.get("type", "") == type_
    if container == "?":
        assert where["q"].startswith("{container=")
    else:
        assert where.get("q", "") == (f'{{container="{container}"}}' if container else "")


# ---- looks ----


def luminance(color: list[int]) -> float:
    linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in (c / 255 for c in color)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_names_can_be_read_on_every_colour(page: Page, site: Site, dark: bool) -> None:
    page.theme(dark)
    opened(page, site)
    colors = module(page, "colors", """
        const text = m.css("--text").match(/[0-9a-f]{2}/g).map((x) => parseInt(x, 16));
        const kinds = ["kernel", "native", "runtime", "jit", ""].flatMap((kind) =>
          Array.from({length: 400}, (_, i) => m.ofFrame({kind, hash: i * 2654435761 >>> 0})));
        const changes = Array.from({length: 41}, (_, i) => m.ofChange(i / 20 - 1));
        return [text, ...kinds, ...changes];""")  # fmt: skip
    text, *grounds = colors
    for ground in grounds:
        light, low = sorted((luminance(text), luminance(ground)), reverse=True)
        assert (light + 0.05) / (low + 0.05) >= 4.5, ground


@pytest.mark.parametrize("view", ["", "icicle", "inverted", "sandwich", "table"])
@pytest.mark.parametrize("base", ["", "previous"])
@pytest.mark.parametrize(("width", "height", "dark"), [(1280, 720, False), (390, 844, True)])
def test_it_fits_a_laptop_and_a_phone(
    page: Page, site: Site, view: str, base: str, width: int, height: int, dark: bool
) -> None:
    page.resize(width, height)
    page.theme(dark)
    opened(page, site, view=view, base=base, **fifth(site))
    assert page.run("document.documentElement.scrollWidth") <= width
    if view in ("", "icicle", "inverted") and width > 1000:
        box = page.run("(b => [b.top + scrollY, b.bottom + scrollY])(document.querySelector('.flame-box').getBoundingClientRect())")
        assert box[1] <= height, "all of the graph is in sight without scrolling"
        assert box[1] - box[0] > 230
