"""gRPC over a Unix socket, with messages as bytes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from grpclib.client import Channel, UnaryUnaryMethod
from grpclib.const import Status
from grpclib.encoding.base import CodecBase
from grpclib.exceptions import GRPCError, StreamTerminatedError

from huatuo.enrich.containers.sources.base import SourceAbsent, SourceError

__all__ = ["Socket"]

_TIMEOUT_SECONDS = 5.0


class _Bytes(CodecBase):
    __content_subtype__ = "proto"

    def encode(self, message: Any, message_type: Any) -> bytes:  # noqa: ARG002
        return bytes(message)

    def decode(self, data: bytes, message_type: Any) -> Any:  # noqa: ARG002
        return data


class Socket:
    """A daemon's socket; connects when it is called, and again if the daemon was restarted.

    One that is not `required` may be absent, and so may its services.
    """

    def __init__(self, path: Path, *, required: bool = True) -> None:
        self.path, self._required = path, required
        self._channel: Channel | None = None

    async def call(
        self, method: str, message: bytes = b"", metadata: Mapping[str, str] | None = None
    ) -> bytes:
        """The answer of /package.Service/Method. Raises SourceError."""
        if not self._required and not self.path.exists():
            raise SourceAbsent(f"there is no {self.path}")
        if self._channel is None:
            self._channel = Channel(path=str(self.path), codec=_Bytes())
        remote = UnaryUnaryMethod(self._channel, method, bytes, bytes)
        try:
            answer: bytes = await remote(message, timeout=_TIMEOUT_SECONDS, metadata=metadata)
        except GRPCError as error:
            if error.status is Status.UNIMPLEMENTED:
                kind = SourceError if self._required else SourceAbsent
                raise kind(f"{self.path} has no {method.split('/')[1]}") from error
            raise SourceError(f"{self.path}: {error.message or error.status.name}") from error
        except (OSError, StreamTerminatedError) as error:
            self.close()
            raise SourceError(f"{self.path}: {str(error) or type(error).__name__}") from error
        return answer

    def close(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None
