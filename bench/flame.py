"""Flame graphs in a real browser: 100,000 frames, how long a picture takes while one moves about.

Frame times come from requestAnimationFrame in headless Chromium, which draws without a GPU; tasks
of the page's only thread that last 50 ms and more from the browser's own long-task observer.
"""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from typing import Any

from tests.browser.chromium import Browser, Page, find
from tests.browser.conftest import served
from tests.serve.fake_node import on_disk

_NODES = 100_000
_SHOWN = "!!document.querySelector('.flame-bar') && !document.querySelector('.stale')"
_LONG_TASKS = """
    window.long = [];
    new PerformanceObserver((list) => list.getEntries().forEach((one) => long.push(one.duration)))
      .observe({type: 'longtask', buffered: true});
    true"""
_MOVE = """(async () => {
  const box = document.querySelector('.flame-box');
  const { x, y, width } = box.getBoundingClientRect();
  const send = (more) => box.dispatchEvent(new WheelEvent('wheel',
    { bubbles: true, cancelable: true, clientX: x + width * 0.4, clientY: y + 50, ...more }));
  const moves = {
    zoom: (i) => send({ ctrlKey: true, deltaY: i % 60 < 30 ? -25 : 25 }),
    pan: (i) => send({ deltaX: i % 40 < 20 ? 40 : -40 }),
    scroll: (i) => { box.scrollTop += i % 60 < 30 ? 12 : -12; },
  };
  const times = [];
  for (let k = 0; k < 6; k += 1) send({ ctrlKey: true, deltaY: -25 });
  await new Promise((done) => {
    let last = 0;
    let i = 0;
    const step = (now) => {
      if (last) times.push(now - last);
      last = now;
      moves[HOW](i);
      i += 1;
      if (i < 240) requestAnimationFrame(step); else done();
    };
    requestAnimationFrame(step);
  });
  return times.sort((a, b) => a - b);
})()"""


def _move(page: Page, how: str) -> str:
    times = page.run(_MOVE.replace("HOW", json.dumps(how)))
    late = sum(one > 20 for one in times)
    at = [times[int(len(times) * share)] for share in (0.5, 0.95)]
    return f"{at[0]:.1f} | {at[1]:.1f} | {times[-1]:.1f} | {late} of {len(times)}"


def _rows(page: Page, url: str) -> list[str]:
    rows = []
    for view in ("flame", "icicle", "inverted"):
        page.open("about:blank")
        page.open(f"{url}#/profiles?range=1h&view={view}")
        page.wait(_SHOWN, 60)
        frames = page.run("document.querySelector('.flame-box').ariaLabel.match(/\\d+/)[0]")
        rows += [f"| {view} | {frames} | {how} | {_move(page, how)} |" for how in ("zoom", "pan")]
    rows.append(f"| inverted | {frames} | scroll | {_move(page, 'scroll')} |")
    return rows


def _stalls(page: Page, url: str) -> list[str]:
    """The longest task of the page for each step a user takes."""
    steps = ["view=flame", "view=inverted", "view=sandwich", "view=table", "view=icicle&find=read"]
    page.open("about:blank")
    page.open(url)
    page.wait("document.readyState === 'complete' && location.protocol === 'http:'")
    page.run(_LONG_TASKS)
    rows = []
    for step in steps:
        page.run("long.length = 0")
        page.run(f"location.hash = '#/profiles?range=1h&{step}'")
        page.wait(_SHOWN.replace(".flame-bar", ".flame-bar, .functions tr"), 60)
        time.sleep(1)
        found: list[Any] = page.run("long")
        rows.append(f"| {step} | {f'{max(found):.0f}' if found else 'below 50'} |")
    return rows


def run(rounds: int) -> str:  # noqa: ARG001  (one is enough: hundreds of frames each)
    program = find()
    if program is None:
        return "### flame graphs in a browser\n\nno chromium on this machine"
    with (
        Browser(program) as browser,
        on_disk(history_seconds=1800, nodes=_NODES) as node,
        contextmanager(served)(node) as site,
    ):
        page = browser.page()
        moving = _rows(page, site.url)
        stalls = _stalls(page, site.url)
    return "\n".join([
        "### flame graphs in a browser: ms from one picture to the next, 1440 x 900, no GPU\n",
        "| view | frames | | median | 95 % | longest | over 20 ms |",
        "|---|---:|---|---:|---:|---:|---:|",
        *moving,
        "\n| step | longest task, ms |\n|---|---:|",
        *stalls,
    ])  # fmt: skip
