"""Debug information from a debuginfod server, by build id. Only where the operator names servers.

Source: debuginfod(8): GET /buildid/BUILDID/debuginfo.

Used in worker processes.
"""

from __future__ import annotations

import http.client
import os
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from huatuo.enrich.symbols.debug_files import OpenElf
from huatuo.errors import Malformed

__all__ = ["Unreachable", "download"]

_ANSWER_SECONDS = 10
_CHUNK = 1 << 18


class Unreachable(Exception):  # noqa: N818
    """No server said that it has the file, and not all of them said that they have not."""


def download(
    servers: Sequence[str], build_id: str, directory: Path, seconds: float, most: int
) -> OpenElf | None:
    """The file, unnamed in `directory`, from the first server that has it; None if none has.

    Raises Unreachable.
    """
    deadline, problems = time.monotonic() + seconds, []
    for server in servers:
        try:
            return _fetch(f"{server.rstrip('/')}/buildid/{build_id}/debuginfo", build_id,
                          directory, deadline, most)  # fmt: skip
        except urllib.error.HTTPError as error:
            error.close()
            if error.code != 404:
                problems.append(f"{server}: {error}")
        except (OSError, ValueError, http.client.HTTPException, Malformed) as error:
            problems.append(f"{server}: {error}")
    if problems:
        raise Unreachable("; ".join(problems))
    return None


def _fetch(url: str, build_id: str, directory: Path, deadline: float, most: int) -> OpenElf:
    if not url.startswith(("http://", "https://")):
        raise ValueError("not an address of HTTP")
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("no time left")
    request = urllib.request.Request(url, headers={"User-Agent": "huatuo"})
    size = 0
    with (
        urllib.request.urlopen(request, timeout=min(left, _ANSWER_SECONDS)) as answer,
        tempfile.TemporaryFile(dir=directory) as file,
    ):
        while chunk := answer.read1(_CHUNK):
            size += len(chunk)
            if size > most:
                raise ValueError(f"larger than {most} bytes")
            if time.monotonic() > deadline:
                raise TimeoutError("took too long")
            file.write(chunk)
        file.flush()
        found = OpenElf.of(os.dup(file.fileno()))
    if found.elf.build_id != build_id:
        raise ValueError("the file has another build id")
    return found
