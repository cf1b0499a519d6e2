"""The formats a profile can be saved in, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from huatuo.export import folded, otlp_profiles, pprof
from huatuo.export.firefox import firefox
from huatuo.export.speedscope import speedscope
from huatuo.model.profile import Profile

__all__ = ["FORMATS", "Format"]

_JSON = "application/json"


class Format(NamedTuple):
    """`suffix` of a file's name, `media_type`, and what writes it."""

    suffix: str
    media_type: str
    write: Callable[[Profile], bytes]


FORMATS: Mapping[str, Format] = {
    "pprof": Format(".pb.gz", "application/octet-stream", pprof.write),
    "folded": Format(".folded", "text/plain; charset=utf-8", folded.write),
    "speedscope": Format(".speedscope.json", _JSON, speedscope),
    "firefox": Format(".firefox.json", _JSON, firefox),
    "otlp": Format(".otlp.pb", "application/x-protobuf", otlp_profiles.write),
}
