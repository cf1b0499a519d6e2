"""multipart/form-data, for the clients that send profiles in a form."""

from __future__ import annotations

import re

from huatuo.serve.refusal import Refusal

__all__ = ["form_parts"]

_BOUNDARY = re.compile(r'boundary=(?:"([^"]{1,70})"|([^\s;"]{1,70}))', re.IGNORECASE)
_NAME = re.compile(rb'\bname="([^"\r\n]{1,100})"')
_MOST = 16  # parts


def form_parts(content_type: str, body: bytes) -> dict[str, bytes]:
    """Field → content; of equal names the first. Raises Refusal."""
    found = _BOUNDARY.search(content_type)
    if not found:
        raise _bad("the content type has no boundary")
    mark = b"--" + (found[1] or found[2]).encode("latin-1", "replace")
    if not body.startswith(mark):
        raise _bad("the form does not begin with its boundary")
    parts: dict[str, bytes] = {}
    for part in body[len(mark) :].split(b"\r\n" + mark, _MOST)[:_MOST]:
        head, blank, content = part.partition(b"\r\n\r\n")
        name = _NAME.search(head)
        if blank and name:
            parts.setdefault(name[1].decode("utf-8", "replace"), content)
    return parts


def _bad(what: str) -> Refusal:
    return Refusal(400, "bad_form", what, "send multipart/form-data with a field `profile`")
