"""Schemas read from compiled objects, against what the C says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from huatuo.errors import Malformed
from huatuo.kernel.btf import Btf, is_exported
from huatuo.model.meaning import Role

ROOT = Path(__file__).parents[2]
SCHED = ROOT / "src/huatuo/probes/cpu/sched.bpf.o"
FLOOD = ROOT / "tests/live/inject/flood.bpf.o"


@pytest.fixture(scope="module", autouse=True)
def built() -> None:
    if not SCHED.exists() or not FLOOD.exists():
        pytest.skip("the BPF objects are not built (make build)")


def test_a_record_has_the_layout_of_the_struct() -> None:
    schema = Btf.of(FLOOD).records["numbers"]
    assert schema.name == "numbered"
    assert schema.dtype.names == ("time", "number", "tgid", "inverted")
    assert [schema.dtype.fields[n][1] for n in schema.dtype.names] == [0, 8, 16, 24]  # type: ignore[index]
    assert schema.dtype.itemsize == 32
    assert schema.dtype["tgid"] == np.uint32


def test_meanings_help_and_json_names_come_from_c() -> None:
    by_name = {field.name: field for field in Btf.of(FLOOD).records["numbers"]}
    assert by_name["time"].meaning.name == "ktime_ns_t"
    assert by_name["number"].help == "1, 2, 3, …"
    assert by_name["tgid"].json_name == "pid"


def test_tunables_have_names_defaults_and_help() -> None:
    threshold = Btf.of(SCHED).variables["blame_threshold"]
    assert threshold.typedefs[0] == "duration_ns_t"
    assert threshold.help
    assert threshold.default == 1_000_000


def test_exported_maps_are_those_with_metric_members() -> None:
    maps = {m.name: m for m in Btf.of(SCHED).maps}
    assert is_exported(maps["rows"].value)
    assert is_exported(maps["blame"].value)
    assert not is_exported(maps["row_of_cgroup"].value)
    assert not is_exported(maps["tasks"].value)
    assert maps["blame"].key is not None
    assert [f.name for f in maps["blame"].key] == ["victim", "culprit"]
    assert maps["rows"].value is not None
    wait = maps["rows"].value.field("wait")
    assert wait.meaning.role is Role.HISTOGRAM
    assert maps["rows"].value.dtype["wait"]["slots"].shape == (27,)


@pytest.mark.parametrize("content", [b"", b"\x7fELF", b"not an object at all" * 20])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.bpf.o"
    path.write_bytes(content)
    with pytest.raises(Malformed, match="ELF"):
        Btf.of(path)
