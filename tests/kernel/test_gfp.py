"""Names of allocation flags; tests/live/test_gfp.py compares them with the running kernel's."""

from __future__ import annotations

from huatuo.kernel.gfp import gfp_names


def test_known_sets() -> None:
    assert gfp_names(0xCC0) == "GFP_KERNEL"
    assert gfp_names(0xDC0) == "GFP_KERNEL|__GFP_ZERO"
    assert gfp_names(0x40CC0) == "GFP_KERNEL|__GFP_COMP"
    assert gfp_names(0x820) == "__GFP_HIGH|__GFP_KSWAPD_RECLAIM"
    assert gfp_names(0) == "0"
    assert gfp_names(1 << 27 | 0xC40) == "GFP_NOFS|0x8000000"
