"""The graphs of the profiles page: numbers are compared with sums made here from the samples."""

from __future__ import annotations

import json
import re
from collections import Counter

import pytest

from tests.browser.chromium import Page
from tests.browser.conftest import Site
from tests.browser.profiles import (
    READY,
    ROW,
    STILL,
    fifth,
    hash_of,
    hover,
    iso,
    module,
    opened,
    stacks,
)

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
          const up = t.parent[n];
          if (up === 0) out.first[name(n)] = t.total[n];
          else if (t.parent[up] === 0) out.second[`${name(up)} < ${name(n)}`] = t.total[n];
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
            const text = (frame) => `${{frame.name}} ${{frame.mapping}}`;
            const f = t.frames.findIndex((one) => text(one) === {json.dumps(name)});
            const level = (t) => Object.fromEntries([...t.parent].flatMap((p, n) => (
              p === 0 ? [[text(t.frames[t.frame[n]]), t.total[n]]] : [])));
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
    row = page.run(
        f"Math.round((6 * {ROW} - document.querySelector('.flame-box').scrollTop) / {ROW})"
    )
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
    page.run("document.querySelector('.flame-box').scrollTop = 0")
    assert hover(page, 0.98, 2).splitlines()[0] == "node::Start(int, char**)"
    for _ in range(8):
        page.call("Input.dispatchMouseEvent", type="mouseWheel", deltaY=-120, modifiers=2, **at)
    assert hover(page, 0.98, 2).splitlines()[0] == "PostmasterMain"
    page.run("document.querySelector('.flame-box').focus()")
    page.key("Escape")
    page.wait(STILL)
    assert hover(page, 0.98, 2).splitlines()[0] == "node::Start(int, char**)"


def test_fingers_tap_pan_and_pinch(page: Page, site: Site) -> None:
    page.resize(390, 844)
    page.call("Emulation.setTouchEmulationEnabled", enabled=True)
    opened(page, site, view="icicle")
    bar = "document.querySelector('.flame-bar').innerText"
    box = page.box(".flame-box")
    x, y = box["x"] + 20, box["y"] + 2.5 * ROW
    page.touch("touchStart", (x, y), (x + 60, y))
    for apart in (90, 120, 160, 220, 300):
        page.touch("touchMove", (x, y), (x + apart, y))
    page.touch("touchEnd")
    assert page.run("location.hash").count("at=") == 0
    tap = (box["x"] + 0.7 * box["width"], y)  # before the pinch this was _PyEval_EvalFrameDefault
    page.touch("touchStart", tap)
    page.touch("touchEnd")
    page.wait(f"{bar}.startsWith('PostmasterMain')")
    page.wait("location.hash.includes('at=2.')")


def test_pictures_are_sharp(page: Page, site: Site) -> None:
    page.resize(800, 700, dots=2.5)
    opened(page, site, view="icicle")
    sizes = "(c => [c.width, c.height, c.clientWidth, c.clientHeight])"
    wide, tall, width, height = page.run(f"{sizes}(document.querySelector('.flame canvas'))")
    assert (wide, tall) == (round(2.5 * width), round(2.5 * height))
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
    page.wait(
        "location.hash.includes('view=sandwich') && location.hash.includes('fn=PostmasterMain')"
    )


def test_every_view_has_its_address(page: Page, site: Site) -> None:
    opened(page, site)
    chosen = "document.querySelector('.toggle a[aria-current]').innerText.toLowerCase()"
    for number, name in enumerate(("icicle", "inverted", "sandwich", "table"), 2):
        page.click(f".toggle a:nth-child({number})")
        page.wait(f"location.hash.includes('view={name}')")
        page.wait(f"{READY} && {chosen} === '{name}'")


# ---- comparing ----


def test_a_difference_finds_what_is_new_and_what_is_gone(page: Page, site: Site) -> None:
    opened(page, site, view="table", base="previous", **fifth(site))
    rows = page.run(
        "[...document.querySelectorAll('.functions tbody tr')].slice(0, 12).map(r => r.innerText)"
    )
    changes = {
        name: row for row in rows for name in ("hot_regression", "gone_by_now") if name in row
    }
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
            "(() => { const c = document.querySelector('.flame canvas'); return [..."
            f"c.getContext('2d').getImageData(c.width * {share}, 6 * {ROW} + 15, 1, 1).data]; }})()"
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
    page.wait("document.querySelector('.audit')?.innerText.includes('nothing to compare with')")
    text = page.run("document.querySelector('.audit').innerText")
    assert "profile.cpu ran for 0 % of the time compared with" in text, "and that is why"


def test_other_samples_are_compared_by_share(page: Page, site: Site) -> None:
    opened(
        page,
        site,
        base="selector",
        base_q='{container="pg-0"}',
        q='{container="etl-7"}',
        view="icicle",
    )
    card = hover(page, 0.5, 0)
    assert "same" in card  # all of one is as much as all of the other
