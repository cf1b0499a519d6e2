"""Dashboards and rules: what is generated is current, and only what exists is asked for."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import huatuo.selfmetrics
from huatuo.kernel.btf import is_exported
from huatuo.model.meaning import Role
from huatuo.probes.base import discover
from huatuo.probes.bpf import BpfProbe
from huatuo.probes.reader import Family
from huatuo.probes.windows import Windowed

DEPLOY = Path(__file__).parents[1] / "deploy"
RULES = DEPLOY / "prometheus" / "huatuo.rules.yml"
_OF_SCRAPES = {"instance", "job"}
_SUFFIXES = {Role.HISTOGRAM: ("_bucket", "_sum", "_count")}


def dashboards() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "dashboards", DEPLOY / "grafana" / "dashboards.py"
    )
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


def families(value: object) -> Iterator[Family]:
    """All that a module holds, in tables too."""
    if isinstance(value, Family):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from families(inner)
    elif isinstance(value, tuple | list):
        for inner in value:
            yield from families(inner)


def exported() -> set[str]:
    """Names of all series that the code can export."""
    found: set[str] = set()
    for name, cls in discover().items():
        prefix = f"huatuo_{name.replace('.', '_')}_"
        for value in vars(sys.modules[cls.__module__]).values():
            found |= {prefix + family.name for family in families(value)}
        if issubclass(cls, Windowed):
            found.add(f"{prefix}observed_seconds_total")
        if issubclass(cls, BpfProbe):
            for table in cls.btf().maps:
                if table.value is not None and is_exported(table.value):
                    for field in table.value:
                        suffixes = _SUFFIXES.get(field.meaning.role, ("",))
                        found |= {cls.metric_name(field) + suffix for suffix in suffixes}
    averages = vars(sys.modules["huatuo.probes.task.state"])["_AVERAGES"]
    found |= {f"huatuo_task_state_{name}" for name in averages}
    source = Path(huatuo.selfmetrics.__file__).read_text()
    found |= set(re.findall(r'"(huatuo_[a-z0-9_]+)"', source))
    words = re.findall(r'^ +"([a-z_]+)"[,:]', source, re.MULTILINE) + re.findall(
        r'_by_(?:probe|reason)\("([a-z_]+)"', source
    )
    return found | {
        f"huatuo_{part}_{word}" for part in ("probe", "governor", "store") for word in words
    }


def unknown(text: str) -> set[str]:
    """Names in a text that nothing exports; those that a rule records have a colon before."""
    return set(re.findall(r"(?<!:)\bhuatuo_[a-z0-9_]+", text)) - exported()


def test_dashboards_are_current() -> None:
    folder, written = DEPLOY / "grafana", dashboards().files()
    assert {path.name for path in folder.glob("*.json")} == set(written)
    for name, text in written.items():
        assert (folder / name).read_text() == text, f"run python {folder}/dashboards.py"


@pytest.mark.parametrize("dashboard", dashboards().DASHBOARDS, ids=lambda d: d.uid)
def test_dashboards_ask_for_metrics_that_exist(dashboard: object) -> None:
    text = json.dumps(dashboards().document(dashboard))
    assert not unknown(text)


@pytest.mark.parametrize("dashboard", dashboards().DASHBOARDS, ids=lambda d: d.uid)
def test_panels_are_whole_and_do_not_overlap(dashboard: object) -> None:
    document = dashboards().document(dashboard)
    taken: set[tuple[int, int]] = set()
    for panel in document["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
    variables = {one["name"] for one in document["templating"]["list"]}
    used = set(re.findall(r"\$(\w+)", json.dumps(document["panels"])))
    assert used <= variables | {"__rate_interval"}, "a variable is not defined"
    titles = [panel["title"] for panel in document["panels"] if panel["type"] != "row"]
    assert len(titles) == len(set(titles)), "a test names panels by their titles"


def labels() -> dict[str, set[str]]:
    """Labels of what readers of files export; what BPF exports is asked for in a live test."""
    found: dict[str, set[str]] = {}
    for name, cls in discover().items():
        for value in vars(sys.modules[cls.__module__]).values():
            for family in families(value):
                full = f"huatuo_{name.replace('.', '_')}_{family.name}"
                found.setdefault(full, set()).update(family.labels)
    return found


@pytest.mark.parametrize("dashboard", dashboards().DASHBOARDS, ids=lambda d: d.uid)
def test_queries_use_labels_that_exist(dashboard: Any) -> None:
    known, checked = labels(), 0
    for panel in dashboard.panels:
        for query, legend in panel.queries.items():
            used = set(re.findall(r"\{\{(\w+)\}\}", legend))
            used |= set(re.findall(r"(\w+)[=!]~?\"", query))
            used |= {word for group in re.findall(r"by \(([^)]*)\)", query)
                     for word in group.split(", ")}  # fmt: skip
            names = set(re.findall(r"huatuo_[a-z0-9_]+", query))
            if names <= set(known):
                checked += 1
                assert used <= set.union(*(known[name] for name in names), _OF_SCRAPES) | {"le"}, (
                    query
                )
    assert checked or dashboard.uid == "huatuo-agent"


def test_rules_ask_for_metrics_that_exist() -> None:
    assert not unknown(RULES.read_text())


@pytest.mark.parametrize(
    "words", [("check", "rules", RULES.name), ("test", "rules", "huatuo.rules.test.yml")]
)
def test_promtool_agrees(words: tuple[str, ...]) -> None:
    """Syntax, and each alert with series that make it fire and series that do not."""
    if not shutil.which("promtool"):
        pytest.skip("promtool is not installed (scripts/setup --tests)")
    done = subprocess.run(
        ["promtool", *words], cwd=RULES.parent, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tested_and_says_what_to_do() -> None:
    alerts = re.findall(r"- alert: (\w+)", RULES.read_text())
    tested = (RULES.parent / "huatuo.rules.test.yml").read_text()
    for alert in alerts:
        assert tested.count(f"alertname: {alert}\n") >= 2, f"{alert}: when it fires, when not"
    blocks = RULES.read_text().split("- alert: ")[1:]
    for block in blocks:
        assert "severity:" in block, block
        assert "summary:" in block, block
        assert "action:" in block, block
