"""Opening files below another root."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from huatuo.kernel.rooted import open_below, open_regular, open_root


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "outside").write_text("outside")
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc/inside").write_text("inside")
    (root / "absolute").symlink_to("/etc/inside")
    (root / "climbing").symlink_to("../../../../etc/inside")
    (root / "escape").symlink_to("../outside")
    (root / "escape-absolute").symlink_to(tmp_path / "outside")
    (root / "directory").symlink_to("/etc")
    (root / "loop").symlink_to("loop")
    (root / "magic").symlink_to("/proc/self/root/etc/inside")
    os.mkfifo(root / "fifo")
    return root


def content(root: Path, path: str) -> str:
    directory = open_root(root)
    try:
        fd = open_below(directory, path)
    finally:
        os.close(directory)
    try:
        return os.read(fd, 100).decode()
    finally:
        os.close(fd)


@pytest.mark.parametrize(
    "path", ["/etc/inside", "etc/inside", "/absolute", "/climbing", "/directory/inside",
             "/../../../etc/inside"],
)  # fmt: skip
def test_links_are_followed_from_the_root(tree: Path, path: str) -> None:
    assert content(tree, path) == "inside"


@pytest.mark.parametrize(
    "path", ["/escape", "/escape-absolute", "/../outside", "/loop", "/magic", "/fifo", "/etc",
             "/none", "/etc/inside\0", "", "/" + "x" * 5000],
)  # fmt: skip
def test_nothing_else_is_opened(tree: Path, path: str) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(OSError):
        content(tree, path)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_the_root_of_a_process(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here")
    assert content(Path("/proc/self/root"), str(tmp_path / "file")) == "here"


def test_regular_files_only(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", tmp_path, Path("/dev/null"), tmp_path / "none"):
        with pytest.raises(OSError):
            open_regular(path)
    (tmp_path / "file").write_text("x")
    fd = open_regular(tmp_path / "file")
    assert not os.get_inheritable(fd)
    os.close(fd)
