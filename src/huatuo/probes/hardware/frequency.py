"""How fast the processors run, and how fast they may, from cpufreq."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from statistics import fmean

from huatuo.kernel.host import Host
from huatuo.probes.reader import Reader, Reading, gauge

__all__ = ["Frequency"]

_NOW = gauge("now_hertz", "frequency of the package's CPUs now", "package", "of")
_ALLOWED = gauge("allowed_hertz", "highest frequency that is allowed now", "package")
_HIGHEST = gauge("highest_hertz", "highest frequency that the hardware has", "package")
_GOVERNORS = gauge("policies", "groups of CPUs with that governor", "governor")


class Frequency(Reader):
    """Frequencies of each processor package: lowest, mean and highest of its CPUs, and the limits.

    allowed below highest means that somebody, or heat, limits the processor; a mean far below
    allowed under load means the same of power or heat that the kernel does not see.
    Reads: policy*/scaling_cur_freq, scaling_max_freq, cpuinfo_max_freq and scaling_governor in
    /sys/devices/system/cpu/cpufreq (drivers/cpufreq/cpufreq.c).
    Cost: four small files per group of CPUs that share a frequency, often one CPU.
    """

    priority = 50
    files = ("sys/devices/system/cpu/cpufreq",)

    @classmethod
    def unavailable(cls, host: Host) -> str:
        if any(_policies(host.sys)):
            return ""
        return f"{host.sys}/devices/system/cpu/cpufreq: no frequency is scaled here"

    def parts(self) -> Iterator[Iterator[Reading]]:
        packages: dict[str, list[Path]] = {}
        for policy in _policies(self.host.sys):
            first = self.optional(f"{policy}/affected_cpus").split()
            if first:  # none of its CPUs is online otherwise
                topology = self.host.sys / f"devices/system/cpu/cpu{first[0]}/topology"
                package = self.optional(f"{topology}/physical_package_id").strip() or "0"
                packages.setdefault(package, []).append(policy)
        for package, policies in packages.items():
            yield self._package(package, policies)
        yield self._governors([policy for group in packages.values() for policy in group])

    def _package(self, package: str, policies: list[Path]) -> Iterator[Reading]:
        now = self._hertz(policies, "scaling_cur_freq")
        if now:
            yield _NOW, (package, "lowest"), min(now)
            yield _NOW, (package, "mean"), fmean(now)
            yield _NOW, (package, "highest"), max(now)
        for family, file in ((_ALLOWED, "scaling_max_freq"), (_HIGHEST, "cpuinfo_max_freq")):
            if limits := self._hertz(policies, file):
                yield family, (package,), max(limits)

    def _hertz(self, policies: list[Path], file: str) -> list[float]:
        texts = [self.optional(f"{policy}/{file}").strip() for policy in policies]
        return [int(text) * 1e3 for text in texts if text and text != "<unknown>"]

    def _governors(self, policies: list[Path]) -> Iterator[Reading]:
        names = [self.optional(f"{policy}/scaling_governor").strip() for policy in policies]
        for name in sorted(set(filter(None, names))):
            yield _GOVERNORS, (name,), names.count(name)


def _policies(sys: Path) -> Iterator[Path]:
    return (sys / "devices/system/cpu/cpufreq").glob("policy*")
