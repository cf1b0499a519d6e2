"""Screenshots of every page: python -m tests.browser.shoot http://127.0.0.1:19704 FOLDER [page…]"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from tests.browser.chromium import Browser, find

PAGES = {
    "node": "#/?range=1h",
    "containers": "#/containers?range=1h",
    "container": "#/container?range=1h&name=pg-0",
    "tree": "#/containers?range=1h&view=tree",
    "events": "#/events?range=1h",
    "record": "#/events?range=1h&id=1",
    "incidents": "#/incidents?range=1h",
    "incident": "#/incidents?range=1h&id=1",
    "probes": "#/probes",
    "explore": "#/explore?range=1h&name=huatuo_cpu_sched_wait_seconds",
    "profiles": "#/profiles?range=1h",
    "inverted": "#/profiles?range=1h&view=inverted",
    "sandwich": "#/profiles?range=1h&view=sandwich",
    "functions": "#/profiles?range=1h&view=table",
    "difference": "#/profiles?range=15m&base=previous",
    "no-samples": "#/profiles?type=lock",
    "explore-lines": "#/explore?range=1h&name=huatuo_cpu_sched_run_seconds_total&by=container",
}
SIZES = {"wide": (1440, 900), "narrow": (390, 844)}


def main() -> None:
    base, folder, *only = sys.argv[1:]
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    program = find()
    assert program, "no chromium"
    pages = {name: url for name, url in PAGES.items() if not only or name in only}
    pages |= {name.split("=")[0]: name.split("=", 1)[1] for name in only if "=" in name}
    with Browser(program) as browser:
        page = browser.page()
        for size, (width, height) in SIZES.items():
            page.resize(width, height)
            for dark in (False, True):
                page.theme(dark)
                for name, url in pages.items():
                    page.open("about:blank")
                    page.resize(width, height)
                    page.open(f"{base}/{url}")
                    time.sleep(0.8)
                    page.resize(width, 4000)  # all of it in sight, so that all of it is read
                    time.sleep(1.2)
                    page.screenshot(target / f"{name}-{size}-{'dark' if dark else 'light'}.png")
        print("\n".join(sorted(set(page.problems))) or "no problems in the console")


if __name__ == "__main__":
    main()
