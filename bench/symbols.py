"""What symbols cost: workers that build tables, and the agent that asks them.

    python bench/symbols.py [FILE …]

Without files: the C library, Python, and what is here of LLVM, a JVM, Go programs and Rust's
compiler. The addresses are 100,000 at random, so that much more of a table is touched than by a
profile. Memory of this process: its own (objects of 8,192 places are kept), and pages of the table
that are mapped then, which the next `ready` gives back.
"""

from __future__ import annotations

import argparse
import glob
import random
import statistics
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

from huatuo.enrich.symbols.native import BinaryFile, Identity, Symbols
from huatuo.enrich.symbols.table import Source, Table
from huatuo.kernel.elf import Elf
from huatuo.kernel.host import Host

LOOKUPS = 100_000
PATTERNS = (
    "/lib/*-linux-gnu/libc.so.6",
    f"{sysconfig.get_config_var('LIBDIR')}/libpython3*.so.1.0",
    "/usr/lib/*-linux-gnu/libstdc++.so.6",
    "/usr/lib/*-linux-gnu/libLLVM-*.so.1",
    "/usr/lib/jvm/*/lib/server/libjvm.so",
    "/usr/bin/containerd",
    "/usr/local/bin/terraform",
    str(Path.home() / ".rustup/toolchains/stable*/lib/librustc_driver-*.so"),
)


def files(named: list[str]) -> list[Path]:
    if named:
        return [Path(name).resolve() for name in named]
    found = [Path(sys.executable).resolve()]
    for pattern in PATTERNS:
        matches = [Path(path).resolve() for path in glob.glob(pattern)]  # noqa: PTH207
        if matches:
            found.append(max(matches, key=lambda path: path.stat().st_size))
    return found


def resident(kind: str) -> float:
    """MiB of this process: RssAnon, its own memory, or RssFile, pages of files."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(kind):
            return int(line.split()[1]) / 1024
    return 0.0


def binary(path: Path) -> tuple[BinaryFile, range]:
    status = path.stat()
    with Elf(path) as elf:
        text = elf.sections[".text"]
        build_id = elf.build_id
    identity = Identity(status.st_dev, status.st_ino, status.st_size)
    code = range(text.address, text.address + text.size)
    return BinaryFile(identity, str(path), path, Path("/"), build_id), code


def short(sources: Source | None) -> str:
    names = [str(source.name).lower() for source in Source if sources and source in sources]
    return " ".join(name for name in names if name not in ("frames", "separate"))


def measure(path: Path, directory: Path) -> str:
    file, code = binary(path)
    symbols = Symbols(Host(), directory)
    symbols.lines(file, [code.start])
    begin = time.perf_counter()
    symbols.settle(300)
    wall = time.perf_counter() - begin
    counts, sources = symbols.counts, symbols.sources(file)
    symbols.close()
    [table] = directory.glob("*.sym")

    opens = []
    for _ in range(21):
        begin = time.perf_counter()
        opened = Table(table)
        opens.append(time.perf_counter() - begin)
        opened.close()

    chance = random.Random(1)
    addresses = [chance.randrange(code.start, code.stop) for _ in range(LOOKUPS)]
    symbols = Symbols(Host(), directory)
    own, mapped = resident("RssAnon"), resident("RssFile")
    symbols.lines(file, addresses[:10])
    rates, named, inlined = [], 0, 0
    for first in range(0, LOOKUPS, 1000):
        begin = time.process_time()
        found = symbols.lines(file, addresses[first : first + 1000])
        rates.append(1000 / (time.process_time() - begin))
        named += sum(1 for lines in found if lines)
        inlined += sum(1 for lines in found if lines and len(lines) > 1)
    own, mapped = resident("RssAnon") - own, resident("RssFile") - mapped
    symbols.ready()
    after = resident("RssFile")
    symbols.close()
    assert after - resident("RssFile") < 1  # nothing of the table was mapped any more
    return (
        f"| {path.name} | {path.stat().st_size / 2**20:.1f} | {short(sources)} | {wall:.2f} "
        f"| {counts.worker_seconds:.2f} | {counts.peak_bytes / 2**20:.0f} "
        f"| {table.stat().st_size / 2**20:.2f} | {statistics.median(opens) * 1e3:.2f} "
        f"| {statistics.median(rates):,.0f} | {named / LOOKUPS:.0%} | {inlined / LOOKUPS:.0%} "
        f"| {max(own, 0):.1f} | {mapped:.1f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*")
    print(
        "| file | MiB | symbols from | build s | worker CPU s | worker peak MiB | table MiB "
        "| reopen ms | look-ups/s | named | inlined | own MiB | mapped MiB |"
    )
    print("|---|---:|---" + "|---:" * 10 + "|")
    for path in files(parser.parse_args().files):
        with tempfile.TemporaryDirectory() as directory:
            print(measure(path, Path(directory)), flush=True)


if __name__ == "__main__":
    main()
