"""The web UI's files, held in memory, under a path that changes with their content."""

from __future__ import annotations

import hashlib
import posixpath
import re
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

from starlette.requests import Request
from starlette.responses import Response

from huatuo.serve.answers import Problem
from huatuo.serve.render import problem_response

__all__ = ["asset", "asset_base", "index"]

_TYPES = {
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "svg": "image/svg+xml",
}


@cache
def _contents() -> dict[str, bytes]:
    found: dict[str, bytes] = {}

    def walk(folder: Traversable, prefix: str) -> None:
        for entry in folder.iterdir():
            if entry.is_dir():
                walk(entry, f"{prefix}{entry.name}/")
            elif entry.name.rpartition(".")[2] in _TYPES:
                found[prefix + entry.name] = entry.read_bytes()

    walk(files("huatuo.serve") / "ui", "")
    return dict(sorted(found.items()))


@cache
def _version() -> str:
    digest = hashlib.sha256()
    for name, content in _contents().items():
        digest.update(name.encode() + b"\0" + content)
    return digest.hexdigest()[:12]


def asset_base() -> str:
    """Where the files are, relative to the server's root."""
    return f"ui/{_version()}/"


def _needed_at_once() -> list[str]:
    """main.js and what it imports, and what those import; not what is read later by import()."""
    needed: set[str] = set()
    waiting = ["main.js"]
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            imported = re.findall(rb'from "(\.[^"]+)"', _contents()[name])
            folder = posixpath.dirname(name)
            waiting += [
                posixpath.normpath(posixpath.join(folder, one.decode())) for one in imported
            ]
    return sorted(needed)


@cache
def _index() -> bytes:
    """index.html with the versioned path filled in and the first modules announced."""
    base = asset_base()
    preload = "\n".join(
        f'<link rel="modulepreload" href="{base}{name}">' for name in _needed_at_once()
    )
    page = _contents()["index.html"].decode()
    return page.replace("{{base}}", base).replace("{{preload}}", preload).encode()


async def index(request: Request) -> Response:  # noqa: ARG001
    """The one page; which view it shows stands behind the # of its URL."""
    return Response(_index(), media_type=_TYPES["html"], headers={"cache-control": "no-cache"})


async def asset(request: Request) -> Response:
    name, version = request.path_params["path"], request.path_params["version"]
    content = _contents().get(name)
    if content is None:
        return problem_response(404, Problem("no_such_file", f"no file {name!r} in the UI"))
    current = version == _version()
    keep = "public, max-age=31536000, immutable" if current else "no-cache"
    media_type = _TYPES[name.rpartition(".")[2]]
    return Response(content, media_type=media_type, headers={"cache-control": keep})
