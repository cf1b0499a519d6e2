"""What the tests of the profiles page share: how it is opened, asked, and what it ought to show."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import numpy as np

from huatuo.model.profile import Stack
from tests.browser.chromium import Page
from tests.browser.conftest import Site
from tests.serve.fake_node import FakeNode

READY = (
    "!!document.querySelector('.flame-bar, .functions tbody tr')"
    " && !document.querySelector('.stale')"
)
# Nothing glides any more: longer than a glide takes.
STILL = "new Promise(resume => setTimeout(() => resume(true), 400))"
ROW = 19
Path = tuple[str, ...]


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
    """Value of each stack of functions, outermost first, straight from the samples."""
    start, end = node.profiled
    found: Counter[Path] = Counter()
    for batch in node.samples:
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
    """Runs `body` with the UI's module `name` as `m`, and the tree that is shown as `answer`."""
    script = f"""(async () => {{
        const main = document.querySelector("script[type=module]").src;
        const m = await import(new URL("lib/{name}.js", main));
        const asked = performance.getEntriesByType("resource").map((one) => one.name);
        const answer = await (await fetch(asked.findLast((url) => url.includes("/flame?")))).json();
        {body} }})()"""
    return page.run(script)


def hover(page: Page, share: float, level: int, downward: bool = True) -> str:
    """What the card says about the frame at a share of the width, on a level below the root."""
    page.mouse("mouseMoved", 2, 2)
    box = page.box(".flame-box")
    y = (
        box["y"] + (level + 0.5) * ROW
        if downward
        else box["y"] + box["height"] - (level + 0.5) * ROW
    )
    page.mouse("mouseMoved", box["x"] + box["width"] * share, y)
    return str(page.wait("document.querySelector('.flame > .tip')?.innerText"))


def fifth(site: Site) -> dict[str, str]:
    """The last fifth of the history, in which hot_regression runs."""
    start, end = site.node.profiled
    return {"from": iso(end - (end - start) / 5), "to": iso(end)}
