"""Fetches Debian kernel packages from the mirror apt already uses, and unpacks them.

Nothing of the system's package state is read or written apart from its list of sources: apt runs
with lists, cache and status of its own below the kernel cache. Signatures are checked as usual;
only expiry dates are not, because old suites stop renewing them.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from .kernels import Installed, Kernel, MatrixError, cache_root, installed

__all__ = ["fetch"]

META_PACKAGE = "linux-image-amd64"
BUSYBOX_PACKAGE = "busybox-static"
# linux-image-… depends on -binary-… and -modules-… where the kernel is split (since 7.x).
KERNEL_PART = re.compile(r"\b(linux-(?:image|binary|modules|base)-[0-9][^\s,|(]*)")
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


def fetch(kernel: Kernel, *, refresh: bool = False) -> Installed:
    """The kernel's files. The network is used only if there are none, or to refresh them."""
    if not refresh and (files := installed(kernel)) is not None:
        return files
    for tool in ("apt-get", "dpkg", "depmod"):
        if shutil.which(tool, path=_search_path()) is None:
            raise MatrixError(f"cannot fetch kernel {kernel.name}: {tool} is not installed")
    root = cache_root()
    root.mkdir(parents=True, exist_ok=True)
    with _locked(root / f".{kernel.name}.lock"):
        files = installed(kernel)  # perhaps another process just got it
        if files is not None and not refresh:
            return files
        with tempfile.TemporaryDirectory(dir=root) as work:
            return _publish(_download(kernel, Path(work)), root / kernel.name, files)


def _download(kernel: Kernel, work: Path) -> Path:
    """Gets the newest packages of a kernel; what it needs of them lies in the folder returned."""
    apt = _Apt(work, kernel)
    apt.call("apt-get", "update")
    packages = apt.kernel_packages()
    apt.call("apt-get", "download", *packages, BUSYBOX_PACKAGE)
    for package in sorted(work.glob("*.deb")):
        _call("dpkg", "-x", str(package), str(work / "tree"))
    release = packages[0].removeprefix("linux-image-")
    _arrange(work / "tree", work / release, release, apt.version(packages[0]))
    return work / release


class _Apt:
    """apt with directories of its own, looking at one suite and its security updates."""

    def __init__(self, work: Path, kernel: Kernel) -> None:
        self._work = work
        for folder in ("lists/partial", "cache/archives/partial"):
            (work / folder).mkdir(parents=True)
        (work / "status").touch()
        sources = work / "sources.list"
        sources.write_text("\n".join(_source_lines(kernel.suite)) + "\n")
        self._options = [
            f"-oDir::State::Lists={work}/lists",
            f"-oDir::State::status={work}/status",
            f"-oDir::Cache={work}/cache",
            f"-oDir::Etc::sourcelist={sources}",
            "-oDir::Etc::sourceparts=/dev/null",
            "-oDir::Etc::preferences=/dev/null",
            "-oDir::Etc::preferencesparts=/dev/null",
            "-oAPT::Architecture=amd64",
            "-oAPT::Architectures=amd64",
            "-oAPT::Sandbox::User=root",
            "-oAPT::Update::Error-Mode=any",
            "-oAcquire::Check-Valid-Until=false",
            "-oAcquire::Languages=none",
            "-oAcquire::Retries=3",
            "-q",
        ]

    def call(self, tool: str, *arguments: str) -> str:
        return _call(tool, *self._options, *arguments, cwd=self._work)

    def kernel_packages(self) -> list[str]:
        """The packages behind the meta package, linux-image-RELEASE first."""
        found: list[str] = []
        queue = [META_PACKAGE]
        while queue:
            for name in KERNEL_PART.findall(self._field(queue.pop(0), "Depends")):
                if name not in found:
                    found.append(name)
                    queue.append(name)
        found.sort(key=lambda name: not name.startswith("linux-image-"))
        if not found:
            raise MatrixError(f"{META_PACKAGE} has no kernel package among its dependencies")
        return found

    def version(self, package: str) -> str:
        return self._field(package, "Version")

    def _field(self, package: str, field: str) -> str:
        record = self.call("apt-cache", "show", "--no-all-versions", package)
        lines = (line.partition(": ") for line in record.splitlines())
        return next((value for name, _, value in lines if name == field), "")


def _source_lines(suite: str) -> Iterator[str]:
    """Lines of a sources.list for one suite, on the mirrors this machine's apt is set up with."""
    options = "arch=amd64"
    if KEYRING.exists():
        options += f" signed-by={KEYRING}"
    main, security = _mirrors()
    yield f"deb [{options}] {main} {suite} main"
    if security and suite != "sid":
        yield f"deb [{options}] {security} {suite}-security main"


def _mirrors() -> tuple[str, str | None]:
    """The Debian archive and security archive in use; the environment wins over apt's sources."""
    form = "$(REPO_URI)"
    listing = _call("apt-get", "indextargets", "--format", form, "Created-By: Packages")
    repositories = sorted({line.rstrip("/") for line in listing.splitlines()})
    main = os.environ.get("HUATUO_DEBIAN_MIRROR") or _ending(repositories, "/debian")
    security = os.environ.get("HUATUO_DEBIAN_SECURITY_MIRROR") or _ending(
        repositories, "/debian-security"
    )
    if main is None:
        raise MatrixError(
            "cannot tell a Debian mirror from apt's sources; set HUATUO_DEBIAN_MIRROR to one"
        )
    return main, security


def _ending(repositories: Sequence[str], end: str) -> str | None:
    return next((uri for uri in repositories if uri.endswith(end)), None)


def _arrange(tree: Path, target: Path, release: str, version: str) -> None:
    """Moves what a boot needs out of the unpacked packages, whichever way Debian laid them out."""
    modules = _one_of(tree / "lib/modules" / release, tree / "usr/lib/modules" / release)
    image = _one_of(tree / f"boot/vmlinuz-{release}", modules / "vmlinuz")
    config = _one_of(tree / f"boot/config-{release}", modules / "config")
    busybox = _one_of(tree / "bin/busybox", tree / "usr/bin/busybox")
    (target / "lib/modules").mkdir(parents=True)
    shutil.move(image, target / "vmlinuz")
    shutil.move(config, target / "config")
    shutil.move(busybox, target / "busybox")
    shutil.move(modules, target / "lib/modules" / release)
    _call("depmod", "-b", str(target), release)
    (target / "version").write_text(version + "\n")


def _one_of(*paths: Path) -> Path:
    for path in paths:
        if path.exists():
            return path
    raise MatrixError(f"unpacked kernel packages hold none of {', '.join(map(str, paths))}")


def _publish(source: Path, link: Path, previous: Installed | None) -> Installed:
    """Puts a complete kernel into the cache in place of the previous one."""
    target = link.parent / source.name
    if target.exists():
        shutil.rmtree(target)
    source.rename(target)
    fresh = link.with_name(f".{link.name}.new")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target.name)
    fresh.replace(link)
    if previous is not None and previous.directory != target:
        shutil.rmtree(previous.directory)
    return Installed(target)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _search_path() -> str:
    """PATH with the administrator's folders, which a plain user's PATH lacks."""
    return os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"


def _call(tool: str, *arguments: str, cwd: Path | None = None) -> str:
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "PATH": _search_path()}
    done = subprocess.run(
        [tool, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()[-5:]
        raise MatrixError(f"{tool} failed with {done.returncode}: " + "; ".join(lines))
    return done.stdout
