"""Probes that compare network devices before and after each change that rtnetlink tells of."""

from __future__ import annotations

from collections.abc import Mapping

from huatuo.kernel.host import Host
from huatuo.kernel.links import DELETED_LINK, LINKS, NEW_LINK, Link, links, parse_link
from huatuo.kernel.netlink import ROUTE, Netlink, Overrun
from huatuo.kernel.netns import in_host_netns
from huatuo.probes.watcher import Watcher

__all__ = ["LinkWatcher", "rtnetlink_unavailable"]

_MOST = 4096  # devices whose state is remembered


def rtnetlink_unavailable(host: Host) -> str:
    try:
        in_host_netns(host, lambda: Netlink(ROUTE)).close()
    except OSError as error:
        return f"rtnetlink cannot be used: {error.strerror}"
    return ""


class LinkWatcher(Watcher):
    """Subclasses say what a change means, in `compare`.

    If changes come faster than they are read, the state afterwards is compared with that before:
    what happened in between is lost, but not where it led to.
    """

    def __init__(self, host: Host, settings: Mapping[str, int] | None = None) -> None:
        super().__init__(host, settings)
        self._netlink: Netlink | None = None
        self.known: dict[int, Link] = {}  # by index

    @classmethod
    def unavailable(cls, host: Host) -> str:
        return rtnetlink_unavailable(host)

    @property
    def hooks(self) -> list[str]:
        return ["rtnetlink"]

    def start(self) -> None:
        super().start()
        self._netlink = in_host_netns(self.host, lambda: Netlink(ROUTE, [LINKS]))
        self.known = {link.index: link for link in self.devices()}

    def stop(self) -> None:
        super().stop()
        if self._netlink is not None:
            self._netlink.close()
            self._netlink = None

    def ring_fds(self) -> list[int]:
        own = [] if self._netlink is None else [self._netlink.fd]
        return [*super().ring_fds(), *own]

    def devices(self) -> list[Link]:
        """All there are now."""
        with in_host_netns(self.host, lambda: Netlink(ROUTE)) as netlink:
            return list(links(netlink))

    def look_again(self) -> list[Link]:
        """All there are now, compared with what is known: not every change is told of."""
        if not self.is_started:
            return self.devices()
        self.watch()  # what was told before is older
        found = self.devices()
        for link in found:
            self._compare(link.index, link)
        return found

    def watch(self) -> None:
        assert self._netlink is not None
        try:
            for kind, payload in self._netlink.changes():
                if kind in (NEW_LINK, DELETED_LINK):
                    link = parse_link(payload)
                    self._compare(link.index, None if kind == DELETED_LINK else link)
        except Overrun:
            now = {link.index: link for link in self.devices()}
            for index in self.known.keys() | now.keys():
                self._compare(index, now.get(index))

    def _compare(self, index: int, after: Link | None) -> None:
        before = self.known.get(index)
        if before is not None or after is not None:
            self.compare(before, after)
        if after is None:
            self.known.pop(index, None)
        elif before is not None or len(self.known) < _MOST:
            self.known[index] = after

    def compare(self, before: Link | None, after: Link | None) -> None:
        """One device changed, appeared (no `before`) or vanished (no `after`)."""
        raise NotImplementedError
