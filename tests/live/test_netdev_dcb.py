"""netdev.dcb on the cards of this machine, beside what `dcb` says of each."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest

from huatuo.probes.netdev.dcb import PriorityFlowControl
from tests.live.conftest import HOST, need
from tests.probes.tree import samples

pytestmark = pytest.mark.live


def test_cards_that_have_it_are_those_of_the_tool() -> None:
    need(shutil.which("dcb"), "dcb (iproute2) is not installed")
    cards = [d.parent.name for d in (HOST.sys / "class/net").glob("*/device")]
    need(cards, "no network device of hardware")
    said = {}
    for card in cards:
        argv = ["dcb", "-s", "-j", "pfc", "show", "dev", card]
        done = subprocess.run(argv, capture_output=True, text=True)
        if done.returncode == 0 and done.stdout.strip():
            said[card] = json.loads(done.stdout)
    found = samples(PriorityFlowControl(HOST))
    enabled = found.get("enabled", {})
    assert {device for device, _ in enabled} == set(said)
    assert bool(PriorityFlowControl.unavailable(HOST)) == (not said)
