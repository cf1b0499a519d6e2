"""A daemon's socket, which may not be there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from huatuo.enrich.containers.sources.base import SourceAbsent, SourceError

if TYPE_CHECKING:
    from huatuo.enrich.containers.sources.grpc import Remote

__all__ = ["Socket"]


class Socket:
    """One that is not `required` may be absent, and so may its services."""

    def __init__(self, path: Path, *, required: bool = True) -> None:
        self.path, self._required = path, required
        self._remote: Remote | None = None

    async def call(
        self, method: str, message: bytes = b"", metadata: Mapping[str, str] | None = None
    ) -> bytes:
        """The answer of /package.Service/Method. Raises SourceError."""
        if not self._required and not self.path.exists():
            raise SourceAbsent(f"there is no {self.path}")
        if self._remote is None:
            from huatuo.enrich.containers.sources.grpc import Remote  # where there is a daemon only

            self._remote = Remote(self.path)
        try:
            return await self._remote.call(method, message, metadata)
        except SourceAbsent as error:
            if self._required:
                raise SourceError(str(error)) from error
            raise

    def close(self) -> None:
        if self._remote is not None:
            self._remote.close()
            self._remote = None
