"""Names of allocation flags against the expressions by which the running kernel prints them."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from huatuo.kernel.gfp import gfp_names
from tests.live.conftest import HOST, need

pytestmark = pytest.mark.live

FORMAT = Path("events/kmem/mm_page_alloc/format")
ENTRY = re.compile(r'\{ *\( *unsigned long *\)(.*?), *"(\w+)" *\}')
NUMBER = re.compile(r"(0x[0-9a-f]+|\d+)[uUlL]*")
KNOWN = (1 << 23) - 1
SINGLE = {"GFP_DMA": "__GFP_DMA", "GFP_DMA32": "__GFP_DMA32"}  # the same bits under two names


@contextmanager
def tracefs() -> Iterator[Path]:
    mounted = HOST.sys / "kernel/tracing"
    if (mounted / FORMAT).exists():
        yield mounted
        return
    with tempfile.TemporaryDirectory() as folder:
        made = subprocess.run(["mount", "-t", "tracefs", "tracefs", folder], check=False)
        need(made.returncode == 0, "tracefs cannot be mounted")
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", folder], check=True)


def kernels_names() -> dict[str, int]:
    """Name → bits, from the format of kmem:mm_page_alloc."""
    with tracefs() as root:
        text = (root / FORMAT).read_text()
    found = {}
    for expression, name in ENTRY.findall(text):
        arithmetic = NUMBER.sub(r"\1", re.sub(r"\( *(unsigned int|gfp_t) *\)", "", expression))
        assert re.fullmatch(r"[0-9a-fx()|&~<\s]+", arithmetic), arithmetic
        found[SINGLE.get(name, name)] = eval(arithmetic) & 0xFFFFFFFF
    return found


def test_each_bit_has_the_kernels_name() -> None:
    names = kernels_names()
    assert len(names) > 20
    single = {bits: name for name, bits in names.items() if bits & (bits - 1) == 0}
    assert len([bits for bits in single if bits & KNOWN]) >= 18
    for bits, name in single.items():
        assert gfp_names(bits) == (name if bits & KNOWN else hex(bits))


def test_sets_add_up_to_the_kernels_bits() -> None:
    names = kernels_names()
    for name, bits in names.items():
        parts = gfp_names(bits).split("|")
        assert sum(int(p, 16) if p.startswith("0x") else names[p] for p in parts) == bits, name
    for name in ("GFP_KERNEL", "GFP_USER", "GFP_HIGHUSER_MOVABLE", "GFP_TRANSHUGE", "GFP_NOFS"):
        assert gfp_names(names[name]) == name
