"""What a request's row costs in block.latency: in a hash, in an array, and remembered by the CPU.

    python -m bench block_rows

Nanoseconds per run of block_rq_complete net of statistics (bench/programs.py); the same program
with other ways to its row, compiled here. Medians of rounds that alternate.
"""

from __future__ import annotations

import re
import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from bench.overhead import fast_device, fio_randread
from bench.programs import cost_of_new_programs
from hatch_build import _compile_bpf
from huatuo.kernel.host import Host
from huatuo.probes.block.latency import Latency

_WAYS = {
    "remembered by the CPU, in an array": None,  # as it is
    "number in a hash, row in an array": """
	__u64 number = hot_number(key);
	__u32 at = number - 1;

	return number ? bpf_map_lookup_elem(&hot_rows, &at) : cold_row(key);
""",
    "row in a per-CPU hash": "\t(void)hot_number;\n\treturn cold_row(key);\n",
}
_BODY = re.compile(r"(\*find_row\(const struct request_key \*key\)\n\{).*?(\n\})", re.DOTALL)


def _variant(body: str | None, folder: Path) -> type[Latency]:
    """The probe with another body of find_row()."""
    source = Latency.object_path().with_name("latency.bpf.c").read_text()
    if body is not None:
        source, count = _BODY.subn(lambda found: f"{found[1]}\n{body}{found[2]}", source)
        assert count == 1
    written = folder / "latency.bpf.c"
    written.write_text(source)
    compiled = folder / "latency.bpf.o"
    _compile_bpf(written, compiled)

    class Variant(Latency):
        @classmethod
        def object_path(cls) -> Path:
            return compiled

    Variant.name = Latency.name
    return Variant


def _start(variant: type[Latency], stack: ExitStack) -> None:
    probe = variant(Host())
    probe.start()
    stack.callback(probe.stop)


def run(rounds: int) -> str:
    """One table."""
    costs: dict[str, list[float]] = {way: [] for way in _WAYS}
    with ExitStack() as stack:
        device = stack.enter_context(fast_device())
        variants = {
            way: _variant(body, Path(stack.enter_context(tempfile.TemporaryDirectory())))
            for way, body in _WAYS.items()
        }
        for _ in range(rounds):
            for way, variant in variants.items():
                found = cost_of_new_programs(
                    lambda opened, v=variant: _start(v, opened), lambda: fio_randread(device)
                )
                costs[way].append(found["block_rq_complete"][0])
    lines = [
        "### block.latency: ways to a row",
        "",
        "| way | ns per request | lowest |",
        "|---|---:|---:|",
    ]
    for way, found in costs.items():
        lines.append(f"| {way} | {median(found):.0f} | {min(found):.0f} |")
    return "\n".join(lines)
