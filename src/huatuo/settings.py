"""The agent's own settings: one dataclass for each table of the configuration but the probes'.

Each field knows how it is written (a typedef of model/units.py) and what it means.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "AgentSettings",
    "CaptureSettings",
    "ContainerSettings",
    "GovernorSettings",
    "KnownIssue",
    "PushSettings",
    "StoreSettings",
    "SymbolsSettings",
    "Trigger",
]

_SECOND = 1_000_000_000


def _setting(default: Any, typedef: str, help_text: str, key: str = "") -> Any:
    """`key`: how it is called in the file, where Python does not allow that as a name."""
    metadata = {"typedef": typedef, "help": help_text, **({"key": key} if key else {})}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True)
class AgentSettings:
    listen: str = _setting(
        "127.0.0.1:19704", "text", "address and port of the UI, API and /metrics"
    )
    token_file: str = _setting(
        "", "text", "file with the token that clients send; needed to listen beyond loopback"
    )
    interval: int = _setting(
        10 * _SECOND, "duration_ns_t", "how often all metrics are collected and stored"
    )


@dataclass(frozen=True, slots=True)
class StoreSettings:
    directory: str = _setting("/var/lib/huatuo", "text", "where the embedded store lives")
    max_age: int = _setting(7 * 86400 * _SECOND, "duration_ns_t", "older data is removed")
    max_size: int = _setting(2 << 30, "bytes_t", "the oldest data is removed beyond this size")


@dataclass(frozen=True, slots=True)
class GovernorSettings:
    cpu: float = _setting(0.01, "ratio", "budget of the machine's CPU: BPF programs and agent")
    profiling: float = _setting(
        0.003, "ratio", "part of that for profilers, which sample less often rather than exceed it"
    )
    memory: int = _setting(128 << 20, "bytes_t", "budget of the agent's resident memory")
    every: int = _setting(60 * _SECOND, "duration_ns_t", "how often costs are measured and judged")
    window: int = _setting(
        _SECOND, "duration_ns_t", "how long BPF statistics are on for a measurement"
    )


@dataclass(frozen=True, slots=True)
class SymbolsSettings:
    max_size: int = _setting(512 << 20, "bytes_t", "tables of symbols kept below the store")
    cpu: float = _setting(0.05, "ratio", "of one CPU, what building tables may take over time")
    debuginfod: str = _setting(
        "",
        "text",
        "addresses of servers to ask for debug files, with spaces between; none unless set",
    )


@dataclass(frozen=True, slots=True)
class ContainerSettings:
    """Names in a text are separated by spaces and may be patterns with *."""

    include: str = _setting(
        "",
        "text",
        "containers to watch, all unless set: 'namespace=prod-*, qos=guaranteed or name=db';"
        ' what others use is summed as "other", and they have no events and no profiles',
    )
    exclude: str = _setting("", "text", "containers to leave out, likewise: 'type=pause'")
    labels: str = _setting(
        "app app.kubernetes.io/name com.docker.compose.project com.docker.compose.service",
        "text",
        "labels of containers and pods to keep, with spaces between; * stands for anything",
    )
    annotations: str = _setting("", "text", "annotations to keep, likewise")
    environment: str = _setting(
        "",
        "text",
        "variables of processes that may be shown, with spaces between; * stands for anything,"
        " and secrets are masked",
    )
    sockets: str = _setting(
        "auto",
        "text",
        "sockets of CRI and containerd to ask, with spaces between; auto: the usual ones",
    )
    pods: str = _setting(
        "",
        "text",
        "https address that lists this node's pods: a kubelet's /pods, or the API's"
        " /api/v1/pods?fieldSelector=spec.nodeName=NODE",
    )
    pods_token_file: str = _setting("", "text", "file with a token, sent as Authorization: Bearer")
    pods_ca_file: str = _setting("", "text", "certificates to trust, instead of the system's")
    pods_cert_file: str = _setting("", "text", "certificate to show, with pods_key_file")
    pods_key_file: str = _setting("", "text", "key of pods_cert_file, if it is not in there")


@dataclass(frozen=True, slots=True)
class PushSettings:
    """Where profiles are sent on to."""

    url: str = _setting("", "text", "http(s)://host:port, with a path if it needs one; off without")
    protocol: str = _setting("pyroscope", "text", "pyroscope, pyroscope-ingest or otlp")
    tenant: str = _setting("", "text", "sent as X-Scope-OrgID")
    token_file: str = _setting("", "text", "file with a token, sent as Authorization: Bearer")
    headers: str = _setting("", "text", "further headers: name=value,name=value, percent-encoded")
    ca_file: str = _setting("", "text", "certificates to trust, instead of the system's")
    cert_file: str = _setting("", "text", "certificate to show, with key_file")
    key_file: str = _setting("", "text", "key of cert_file, if it is not in there")
    every: int = _setting(60 * _SECOND, "duration_ns_t", "how often: the profiles since last time")
    timeout: int = _setting(10 * _SECOND, "duration_ns_t", "how long an answer is waited for")
    max_queue: int = _setting(16 << 20, "bytes_t", "the oldest profiles are dropped beyond this")
    max_request: int = _setting(4 << 20, "bytes_t", "profiles are sent together up to this size")
    max_tries: int = _setting(8, "count", "how often the same profiles are tried")


@dataclass(frozen=True, slots=True)
class CaptureSettings:
    """What captures may take."""

    duration: int = _setting(10 * _SECOND, "duration_ns_t", "how long one collects")
    per_hour: int = _setting(12, "count", "more in an hour are refused")
    cpu: float = _setting(
        0.01, "ratio", "budget of the machine's CPU over an hour: more captures are refused beyond"
    )
    samples: int = _setting(99, "count", "samples of stacks per second and busy CPU")
    keep: int = _setting(30 * 86400 * _SECOND, "duration_ns_t", "older incidents are removed")


@dataclass(frozen=True, slots=True)
class KnownIssue:
    """A table [[known]]: events that somebody has looked at already."""

    note: str = _setting("", "text", "what is known of them: shown with the event")
    action: str = _setting("mark", "text", "mark, or mute: not stored, not shown, only counted")
    probe: str = _setting("", "text", "of this probe only")
    title: str = _setting("", "text", "expression that is found in the title")
    stack: str = _setting("", "text", "expression that is found in a frame of the stack")
    container: str = _setting("", "text", "expression that matches the whole container's name")


@dataclass(frozen=True, slots=True)
class Trigger:
    """A table [[trigger]]: what starts a capture. The name of a built-in one changes that one."""

    name: str = _setting("", "text", "of letters, digits and -; `huatuo triggers list` shows all")
    when: str = _setting("", "text", "condition: 'rate(cpu_usage_forks_total) > 1000'")
    per: str = _setting("host", "text", "host, or the label whose values are judged: container")
    hold: int = _setting(0, "duration_ns_t", "how long the condition must hold", "for")
    pause: int = _setting(1800 * _SECOND, "duration_ns_t", "rest after firing, for each target")
    include: str = _setting("", "text", "expression that matches the whole name of a target")
    exclude: str = _setting("", "text", "the same, of targets that are left alone")
    containers: str = _setting(
        "", "text", "only these containers, as [containers] include has it: 'qos=guaranteed'"
    )
    suspects: str = _setting("", "text", "value that ranks who may have caused it, and `per LABEL`")
    plan: str = _setting(
        "", "text", "what is captured: cpu, io, memory, network, tasks; or nothing"
    )
    enabled: bool = _setting(True, "bool", "false switches it off")
