"""What all built-in triggers cost when nothing happens: CPU of judging one snapshot."""

from __future__ import annotations

import tempfile
import time
from statistics import median

from huatuo.agent import Agent
from huatuo.config import Config
from huatuo.settings import StoreSettings
from huatuo.triggers.rules import Engine, rules

_INTERVAL_SECONDS = 10.0
_PAUSE_SECONDS = 0.2


def _idle(rounds: int) -> str:
    """On this machine's own metrics, with all probes that can run."""
    with tempfile.TemporaryDirectory() as directory:
        agent = Agent(Config(store=StoreSettings(directory=directory)))
        agent.inventory.refresh()
        agent.probe_set.set_targets(agent.inventory.cgroups())
        agent.probe_set.start()
        try:
            engine, spent, series = Engine(rules()), [], 0
            for _ in range(rounds):
                metrics = agent.metrics()
                series = sum(len(metric) for metric in metrics)
                began = time.thread_time()
                # as if an interval had passed, so that what is remembered has its usual length
                engine.observe(len(spent) * int(_INTERVAL_SECONDS * 1e9) + 1, metrics)
                spent.append(time.thread_time() - began)
                time.sleep(_PAUSE_SECONDS)
        finally:
            agent.probe_set.stop()
            agent.store.close()
    cost = median(spent[len(spent) // 2 :])
    share = cost / _INTERVAL_SECONDS
    return (
        f"| {len(engine.rules)} triggers, {series} samples | {cost * 1e3:.2f} ms per interval,"
        f" {share:.4%} of one core | <= 0.05 % |"
    )


def run(rounds: int) -> str:
    head = "### Triggers when nothing happens\n\n| | measured | aim |\n|---|---|---|\n"
    return head + _idle(rounds * 12)
