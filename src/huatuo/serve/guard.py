"""What stands before every request: security headers, the right host name, the token."""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
from email.utils import formatdate
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from huatuo.serve.answers import Problem
from huatuo.serve.render import problem_response

__all__ = ["Guard"]

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": CSP,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
_SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}
# Connect's calls are all POST; these only read, and no page of another origin sees the answer
_READING_PATHS = ("/querier.v1.QuerierService/",)
_OPEN_PATHS = ("/ui/", "/healthz", "/favicon.ico")  # carry nothing of the host


class Guard:
    """ASGI middleware.

    Without a required token only IP addresses and localhost are accepted as host names: a web page
    that rebinds its own name to 127.0.0.1 (DNS rebinding) must not read the host's events. Nor may
    a page of another origin change anything here.
    """

    def __init__(self, app: ASGIApp, token: str, require_token: bool) -> None:
        self.app = app
        self.token = token
        self.require_token = require_token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["date"] = formatdate(usegmt=True)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("cache-control", "no-store")
            await send(message)

        refused = self._refuse(scope)
        if refused is None:
            await self.app(scope, receive, send_with_headers)
            return
        response = problem_response(*refused)
        if refused[0] == 401:
            response.headers["www-authenticate"] = "Bearer"
        await response(scope, receive, send_with_headers)

    def _refuse(self, scope: Scope) -> tuple[int, Problem] | None:
        headers = Headers(scope=scope)
        if not self.require_token and not _is_local_name(headers.get("host", "")):
            return 421, Problem(
                "wrong_host",
                f"this server does not answer to the name {headers.get('host', '')!r}",
                "use its IP address or localhost, or set a token",
            )
        if not _only_reads(scope) and _is_foreign(headers):
            return 403, Problem(
                "foreign_origin",
                f"a page of {headers.get('origin', '')!r} may change nothing here",
                "send the request without a browser",
            )
        if self._needs_token(scope) and not self._has_token(headers):
            return 401, Problem(
                "token_needed",
                "this request needs the agent's token",
                "send the header Authorization: Bearer TOKEN",
            )
        return None

    def _needs_token(self, scope: Scope) -> bool:
        path = str(scope["path"])
        if not _only_reads(scope):
            return bool(self.token)
        if not self.require_token or path == "/":
            return False
        return not path.startswith(_OPEN_PATHS)

    def _has_token(self, headers: Headers) -> bool:
        """As a bearer token, or as the password of any user where a client knows nothing else."""
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "basic":
            given = _password(given)
        elif scheme.lower() != "bearer":
            return False
        right = hmac.compare_digest(given.strip().encode(), self.token.encode())
        return bool(self.token) and right


def _password(credentials: str) -> str:
    try:
        return base64.b64decode(credentials, validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return ""


def _only_reads(scope: Scope) -> bool:
    return scope["method"] in _SAFE_METHODS or str(scope["path"]).startswith(_READING_PATHS)


def _is_foreign(headers: Headers) -> bool:
    """Browsers name the page's origin in every request that could change something."""
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc != headers.get("host", "")


def _is_local_name(host: str) -> bool:
    name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    name = name.strip("[]").lower()
    if name in ("", "localhost") or name.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
