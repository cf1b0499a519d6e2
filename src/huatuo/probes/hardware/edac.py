"""Memory errors that the memory controllers count, from EDAC."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from huatuo.kernel.host import Host
from huatuo.probes.reader import Reader, Reading, counter

__all__ = ["Edac"]

_ERRORS = counter(
    "errors",
    "memory errors since boot: corrected by the memory's code, or not",
    "controller",
    "dimm",
    "severity",
)


class Edac(Reader):
    """Corrected and uncorrected memory errors by controller and module.

    The kernel's collector of corrected errors (RAS_CEC) may keep them from EDAC; then they are in
    neither, and in hardware.ras as machine checks. Errors that no module can be named for have
    the module "unknown".
    Reads: ce_noinfo_count, ue_noinfo_count, dimm*/ and rank*/ in /sys/devices/system/edac/mc
    (drivers/edac/edac_mc_sysfs.c).
    Cost: two small files per memory module.
    """

    priority = 70
    files = ("sys/devices/system/edac/mc",)

    @classmethod
    def unavailable(cls, host: Host) -> str:
        if any(_controllers(host.sys)):
            return ""
        return f"{host.sys}/devices/system/edac/mc: no driver watches a memory controller"

    def parts(self) -> Iterator[Iterator[Reading]]:
        for controller in _controllers(self.host.sys):
            yield self._unknown(controller)
            for module in (*controller.glob("dimm[0-9]*"), *controller.glob("rank[0-9]*")):
                yield self._module(controller, module)

    def _unknown(self, controller: Path) -> Iterator[Reading]:
        for severity, file in (("corrected", "ce"), ("uncorrected", "ue")):
            count = self.optional(f"{controller}/{file}_noinfo_count").strip()
            yield _ERRORS, (controller.name, "unknown", severity), int(count or 0)

    def _module(self, controller: Path, module: Path) -> Iterator[Reading]:
        label = self.optional(f"{module}/dimm_label").strip() or module.name
        for severity, file in (("corrected", "ce"), ("uncorrected", "ue")):
            count = int(self.text(f"{module}/dimm_{file}_count"))
            yield _ERRORS, (controller.name, label, severity), count


def _controllers(sys: Path) -> Iterator[Path]:
    return (sys / "devices/system/edac/mc").glob("mc[0-9]*")
