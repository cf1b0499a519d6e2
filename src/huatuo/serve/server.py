"""uvicorn inside a loop that is already running; costs nothing while nobody asks."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable

import uvicorn
from starlette.applications import Starlette

from huatuo.errors import HuatuoError

__all__ = ["bind", "serve"]

_STOP_SECONDS = 0.5


class _Server(uvicorn.Server):
    """Waits for an event instead of waking ten times a second (that was 0.2 % of a core)."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._stop = asyncio.Event()

    def stop(self) -> None:
        self.should_exit = True
        self._stop.set()

    async def main_loop(self) -> None:
        await self.on_tick(0)
        await self._stop.wait()


def bind(host: str, port: int) -> list[socket.socket]:
    """Listening sockets on all addresses of `host`; HuatuoError names address and reason."""
    try:
        found = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError as error:
        raise HuatuoError(
            f"web server: {host!r} is not an address of this host: {error.strerror or error}; "
            'set listen = "127.0.0.1:19704"'
        ) from error
    sockets: list[socket.socket] = []
    for family, kind, protocol, _, address in dict.fromkeys(found):
        listener = socket.socket(family, kind, protocol)
        sockets.append(listener)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind(address)
            listener.listen(128)
            listener.setblocking(False)
        except OSError as error:
            for opened in sockets:
                opened.close()
            raise HuatuoError(
                f"web server: cannot listen on {host}:{port}: {error.strerror or error}; "
                "is another agent running? choose another port with listen"
            ) from error
    return sockets


async def serve(
    app: Starlette,
    host: str,
    port: int,
    *,
    started: Callable[[str, int], None] = lambda _host, _port: None,
) -> None:
    """Serve until cancelled; then stop within a second, open event streams included.

    `started` gets the address once connections are accepted (port 0 becomes the real one).
    Raises HuatuoError when the address cannot be used.
    """
    sockets = bind(host, port)
    config = uvicorn.Config(
        app,
        access_log=False,
        date_header=False,  # the guard writes it, this one would need a timer
        lifespan="off",
        log_config=None,
        log_level="warning",
        loop="none",
        http="h11",
        ws="none",
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=1,
    )
    server = _Server(config)
    task = asyncio.create_task(server._serve(sockets))
    try:
        while not server.started and not task.done():
            await asyncio.sleep(0.01)
        if server.started:
            started(host, sockets[0].getsockname()[1])
        await asyncio.shield(task)
    finally:
        app.state.streams.close()
        server.stop()
        with contextlib.suppress(asyncio.CancelledError, TimeoutError):
            await asyncio.wait_for(asyncio.shield(task), _STOP_SECONDS)
        if not task.done():
            server.force_exit = True
            for connection in list(server.server_state.connections):
                transport = getattr(connection, "transport", None)
                if transport is not None:
                    transport.abort()
            with contextlib.suppress(asyncio.CancelledError, TimeoutError):
                await asyncio.wait_for(task, _STOP_SECONDS)
