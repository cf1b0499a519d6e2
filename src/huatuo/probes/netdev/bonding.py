"""Bonding: which slaves carry traffic, and what LACP agreed on with the switch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from huatuo.kernel.host import Host
from huatuo.kernel.links import Link, Slave
from huatuo.probes.links import LinkWatcher
from huatuo.probes.reader import Reading, counter, gauge
from huatuo.probes.watcher import named, notice

__all__ = ["Bonding"]

_MODES = (
    "balance_rr",
    "active_backup",
    "balance_xor",
    "broadcast",
    "802.3ad",
    "balance_tlb",
    "balance_alb",
)
_LACP = _MODES.index("802.3ad")
_SLAVES = gauge("slaves", "slaves of the bond", "device")
_USED = gauge("active_slaves", "slaves that carry traffic", "device")
_UP = gauge("link_up", "1 if the bond sees the slave's link", "device", "slave")
_ACTIVE = gauge("active", "1 if the slave carries traffic", "device", "slave")
_FAILURES = counter("link_failures", "times that the slave lost its link", "device", "slave")
_AGGREGATED = gauge(
    "aggregated", "1 if LACP has the slave in the bond's aggregate (802.3ad)", "device", "slave"
)
_CHANGED = counter("changes", "changes noticed since the start", "change")
_SAID = {
    "link_up": "has its link again",
    "link_down": "lost its link",
    "active": "carries traffic now",
    "backup": "carries no traffic any more",
    "aggregated": "was taken into the aggregate by LACP",
    "separated": "was taken out of the aggregate by LACP",
    "partner_found": "has a LACP partner",
    "partner_lost": "lost its LACP partner",
    "added": "was added",
    "removed": "was removed",
}
# bits of a LACP port's state: IEEE 802.1AX; LACP_STATE_… in drivers/net/bonding/bond_3ad.c
_LACP_STATE = (
    "activity",
    "short_timeout",
    "aggregation",
    "synchronization",
    "collecting",
    "distributing",
    "defaulted",
    "expired",
)
_CARRIES = 1 << _LACP_STATE.index("distributing")
_ALONE = 1 << _LACP_STATE.index("defaulted") | 1 << _LACP_STATE.index("expired")


class Bonding(LinkWatcher):
    """Bonds whose slaves lose their link, change over, or fall out of LACP's aggregate.

    The kernel tells of each change of a link or of who carries traffic as it happens, with the LACP
    state of both ends; a partner that stops to answer is noticed at the next interval. Bonds are
    found when they are made.

    Reads: rtnetlink of the host's namespace (drivers/net/bonding/bond_netlink.c).
    Cost: one dump per interval, about 20 µs per device; one message per change.
    """

    priority = 80
    ring: ClassVar[str] = "bond_changes"
    titles: ClassVar[Mapping[str, str]] = {"bond_changes": "{slave} of {bond}: {change}"}
    schema = notice(
        "bond_change",
        named("change", list(_SAID), "what happened to the slave"),
        ("bond", "comm_t", "the bonding device"),
        ("slave", "comm_t", "its slave"),
        named("mode", _MODES, "how the bond works"),
        ("active_slaves", "count_t", "slaves that still carry traffic"),
        ("failures", "count_t", "times that the slave lost its link so far"),
        ("aggregator", "count_t", "LACP aggregate that the slave is in"),
        ("bond_aggregator", "count_t", "LACP aggregate that the bond uses"),
        ("actor_state", "count_t", "LACP state of this end"),
        ("partner_state", "count_t", "LACP state of the other end, as far as it is known"),
        ("partner", "text_t", "LACP system of the other end"),
    )

    def __init__(self, host: Host, settings: Mapping[str, int] | None = None) -> None:
        super().__init__(host, settings)
        self._changes: dict[str, int] = {}

    def compare(self, before: Link | None, after: Link | None) -> None:
        mode = self._mode(before, after)
        old = before.slave if before is not None else None
        new = after.slave if after is not None else None
        link = after if new is not None else before
        if link is not None:
            for change in _slave_changes(old, new, mode == _LACP):
                self._tell(link, new or old, change)

    def _mode(self, *links: Link | None) -> int:
        masters = [self.known.get(link.master) for link in links if link is not None]
        return next((m.bond.mode for m in masters if m is not None and m.bond is not None), -1)

    def _tell(self, link: Link, slave: Slave | None, change: str) -> None:
        bond = self.known.get(link.master)
        if bond is None or bond.bond is None or slave is None:
            return
        self._changes[change] = self._changes.get(change, 0) + 1
        others = [o for o in self.known.values() if o.master == link.master and o.slave]
        used = sum(_carries(o.slave, bond.bond.mode) for o in others if o.index != link.index)
        self.notices.add(
            change=change,
            bond=bond.name,
            slave=link.name,
            mode=_MODES[bond.bond.mode],
            active_slaves=used + (change != "removed" and _carries(slave, bond.bond.mode)),
            failures=slave.failures,
            aggregator=slave.aggregator,
            bond_aggregator=bond.bond.aggregator,
            actor_state=slave.actor_state,
            partner_state=slave.partner_state,
            partner=bond.bond.partner,
        )

    def parts(self) -> Iterator[Iterator[Reading]]:
        devices = self.look_again()
        for bond in devices:
            if bond.bond is not None:
                slaves = [link for link in devices if link.master == bond.index and link.slave]
                yield self._bond(bond, slaves)
        yield ((_CHANGED, (change,), count) for change, count in self._changes.items())

    def _bond(self, bond: Link, slaves: list[Link]) -> Iterator[Reading]:
        assert bond.bond is not None
        mode = bond.bond.mode
        yield _SLAVES, (bond.name,), len(slaves)
        yield _USED, (bond.name,), sum(_carries(link.slave, mode) for link in slaves)
        for link in slaves:
            assert link.slave is not None
            key = (bond.name, link.name)
            yield _UP, key, link.slave.mii_up
            yield _ACTIVE, key, _carries(link.slave, mode)
            yield _FAILURES, key, link.slave.failures
            if mode == _LACP:
                yield _AGGREGATED, key, link.slave.aggregator == bond.bond.aggregator

    @classmethod
    def describe(cls, fields: dict[str, Any]) -> str:
        """The bits of the LACP states by their names."""
        for name in ("actor_state", "partner_state"):
            bits = fields[name]
            fields[name] = [word for bit, word in enumerate(_LACP_STATE) if bits >> bit & 1]
        left = fields["active_slaves"]
        carry = "1 slave carries" if left == 1 else f"{left or 'no'} slaves carry"
        what = _SAID[str(fields["change"])]
        return f"{fields['bond']}: {fields['slave']} {what}; {carry} traffic"


def _carries(slave: Slave | None, mode: int) -> bool:
    if slave is None or not slave.mii_up or not slave.active:
        return False
    return mode != _LACP or bool(slave.actor_state & _CARRIES)


def _slave_changes(before: Slave | None, after: Slave | None, lacp: bool) -> Iterator[str]:
    """What happened to a slave between two states."""
    if before is None or after is None:
        if before is not after:
            yield "removed" if after is None else "added"
        return
    if before.mii_up != after.mii_up:
        yield "link_up" if after.mii_up else "link_down"
    if before.active != after.active:
        yield "active" if after.active else "backup"
    if not lacp:
        return
    if (before.actor_state ^ after.actor_state) & _CARRIES:
        yield "aggregated" if after.actor_state & _CARRIES else "separated"
    alone = bool(before.actor_state & _ALONE), bool(after.actor_state & _ALONE)
    if alone[0] != alone[1]:
        yield "partner_lost" if alone[1] else "partner_found"
