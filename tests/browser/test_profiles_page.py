"""The rest of the profiles page: time, filters, states, ways in and out, looks."""

from __future__ import annotations

import json
import re
from datetime import datetime
from urllib.parse import urlencode

import pytest

from tests.browser.chromium import Browser, Page
from tests.browser.conftest import Site, served_with_token
from tests.browser.profiles import READY, fifth, hash_of, iso, module, opened, stacks

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
        for batch in site.node.samples
        if batch.type == "cpu"
    )
    assert f"{samples} samples" in text


def test_the_present_stands_still_until_asked(page: Page, site: Site) -> None:
    page.open(site.url + "#/profiles")
    page.wait(READY)
    asked = (
        "performance.getEntriesByType('resource').filter(e => e.name.includes('/flame?')).length"
    )
    page.run("new Promise(resume => setTimeout(resume, 2500))")
    assert page.run(asked) == 1
    page.click(".as-of button")
    page.wait(f"{asked} === 2")


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
    page.wait("!!document.querySelector('form.selector')")
    form = "const f = document.querySelector('form.selector');"
    submit = f"(v => {{ {form} f.q.value = v; f.requestSubmit(); }})"
    page.run(submit + "('{container=')")
    page.wait(
        "document.querySelector('.selector [role=alert]')?.innerText.includes('Not a selector')"
    )
    page.run(submit + """('comm=~"p.*", pid!="811"')""")
    page.wait("document.querySelectorAll('.chip').length === 2")
    assert hash_of(page)["q"] == '{comm=~"p.*",pid!="811"}'


def test_selectors_are_read_and_written_alike(page: Page, site: Site) -> None:
    opened(page, site)
    texts = ['{a="x"}', '{a="x\\"y\\\\z",b!~"(c|d)\\\\.e"}', '{a="line\\nbreak, {brace}"}', ""]
    both = module(page, "selector", f"return {json.dumps(texts)}.map((t) => m.write(m.parse(t)));")
    assert both == texts
    wrong = ["{a}", '{a="b}', '{="b"}', '{a="b" c="d"}', "junk", "{a=~b}"]
    assert module(page, "selector", f"return {json.dumps(wrong)}.map(m.parse);") == [None] * len(
        wrong
    )


def test_no_samples_say_why_and_what_there_is(page: Page, site: Site) -> None:
    page.open(site.url + "#/profiles?type=lock")
    page.wait("document.querySelector('.nothing')?.innerText.includes('Types with samples')")
    text = page.run("document.querySelector('.nothing').innerText")
    assert "profile.lock is not available: this kernel has no sleepable task iterator" in text
    page.run(
        "[...document.querySelectorAll('.nothing a')].find(a => a.innerText === 'CPU time').click()"
    )
    page.wait(READY)
    page.open(site.url + "#/profiles?type=cpu&q=" + "%7Bcontainer%3D%22nobody%22%7D")
    page.wait("document.querySelector('.nothing')?.innerText.includes('Remove the filter')")
    links = "[...document.querySelectorAll('.nothing a')]"
    page.run(f"{links}.find(a => a.innerText.startsWith('Remove')).click()")
    page.wait(READY)


def test_a_wrong_selector_in_the_address_is_explained(page: Page, site: Site) -> None:
    page.open(site.url + "#/profiles?type=cpu&q=junk")
    page.wait(
        "document.querySelector('.state.wrong')?.innerText.includes('expected { at position 1')"
    )
    assert page.run("document.querySelectorAll('.state.wrong').length") == 1, "said once"
    page.click(".chip")
    page.wait(READY)
    page.problems[:] = [one for one in page.problems if "status of 400" not in one]


def accounted(text: str) -> float:
    found = re.search(r"adds up to ([\d.]+) % of CPU time", text)
    assert found, text
    return float(found[1])


def test_the_audit_line_warns_when_it_does_not_add_up(page: Page, site: Site) -> None:
    opened(page, site, type="blocked")
    text = page.run("document.querySelector('.caution').innerText")
    assert "profile.blocked was slowed down to 50 % of its rate, for all of this time" in text
    opened(page, site, q='{container="redis-2"}')
    assert "The kernel counted" in page.run("document.querySelector('.caution').innerText")
    wrong = page.run("document.querySelector('.audit .wrong').innerText")
    assert accounted(wrong) == pytest.approx(66.7, abs=0.5)
    opened(page, site)
    assert page.run("document.querySelectorAll('.caution').length") == 0
    text = page.run("document.querySelector('.audit').innerText")
    assert re.search(r"99\.\d % complete stacks · adds up to [\d.]+ % of CPU time · 0 lost", text)
    assert accounted(text) == pytest.approx(98.9, abs=0.5)
    titles = page.run("[...document.querySelectorAll('.audit span')].map(s => s.title).join(' ')")
    assert "no_rows: the unwind rows of its code were not there yet" in titles


def test_every_format_can_be_taken_away(page: Page, site: Site) -> None:
    opened(page, site, q='{container="etl-7"}')
    page.click(".pop:last-child summary")
    page.wait("!!document.querySelector('.menu')")
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
        page.click(".pop:last-child summary")
        page.wait("!!document.querySelector('.menu')")
        page.run(
            "HTMLAnchorElement.prototype.click = function () {"
            "  window.saved = [this.download, this.href]; };"
            "document.querySelector('.menu a').dispatchEvent("
            "  new MouseEvent('click', {bubbles: true, cancelable: true}))"
        )
        name, href = page.wait("window.saved")
        assert re.fullmatch(r"huatuo-cpu-\d{8}T\d{6}Z\.pb\.gz", name)
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
        ("#/container?name=pg-0", "h1 + .to-profile", "", "pg-0"),
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
    linear = [
        p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4
        for p in (c / 255 for c in color)
    ]
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
        box = page.run(
            "(b => [b.top + scrollY, b.bottom + scrollY])"
            "(document.querySelector('.flame-box').getBoundingClientRect())"
        )
        assert box[1] <= height, "all of the graph is in sight without scrolling"
        assert box[1] - box[0] > 230
