"""Files of packages of the npm registry, fetched once and kept below the temporary folder."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest


def npm_file(package: str, version: str, path: str) -> bytes:
    """Skips the test where there is neither the file nor npm and its registry."""
    folder = Path(tempfile.gettempdir()) / "huatuo-tests-npm" / f"{package}-{version}"
    kept = folder / path
    if not kept.exists():
        if shutil.which("npm") is None:
            pytest.skip("npm is not installed")
        folder.mkdir(parents=True, exist_ok=True)
        call = ["npm", "pack", "--silent", f"{package}@{version}"]
        done = subprocess.run(call, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"npm cannot fetch {package}: {done.stderr[:100]}")
        with tarfile.open(folder / done.stdout.strip().splitlines()[-1]) as archive:
            member = archive.extractfile(f"package/{path}")
            assert member is not None
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_bytes(member.read())
    return kept.read_bytes()
