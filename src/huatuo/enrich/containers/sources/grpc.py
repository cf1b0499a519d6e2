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

__all__ = ["Remote"]

_TIMEOUT_SECONDS = 5.0


class _Bytes(CodecBase):
    __content_subtype__ = "proto"

    def encode(self, message: Any, message_type: Any) -> bytes:  # noqa: ARG002
        return bytes(message)

    def decode(self, data: bytes, message_type: Any) -> Any:  # noqa: ARG002
        return data


class Remote:
    """Connects when it is called first, and again if the daemon was restarted."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._channel = Channel(path=str(path), codec=_Bytes())

    async def call(self, method: str, message: bytes, metadata: Mapping[str, str] | None) -> bytes:
        """Raises SourceError; SourceAbsent if there is no such service."""
        remote = UnaryUnaryMethod(self._channel, method, bytes, bytes)
        try:
            answer: bytes = await remote(message, timeout=_TIMEOUT_SECONDS, metadata=metadata)
        except GRPCError as error:
            if error.status is Status.UNIMPLEMENTED:
                raise SourceAbsent(f"{self._path} has no {method.split('/')[1]}") from error
            raise SourceError(f"{self._path}: {error.message or error.status.name}") from error
        except (OSError, StreamTerminatedError) as error:
            self._channel.close()
            raise SourceError(f"{self._path}: {str(error) or type(error).__name__}") from error
        return answer

    def close(self) -> None:
        self._channel.close()
