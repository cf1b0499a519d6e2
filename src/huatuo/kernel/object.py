"""A compiled BPF object on the running kernel: which programs, loaded, attached, read.

Of a role's forms (forms.py) the first that loads and attaches is used. What a kernel cannot do is
found by trying, and the reason is kept.

Programs in `iter/` sections are not attached: `run_iterator` runs them once. Those of a role in
`held` are attached only by `attach_held`, for what is needed only sometimes or may come later,
those in `perf_event` sections only by `attach_perf_event`. A role in `optional` may have no form
that works; the others run without it.

Objects may share maps: those in `shared` are taken from the descriptors given there, and it is
their owner who reads them. `bodies` are functions with another body than the compiler's.
"""

from __future__ import annotations

import ctypes as c
import os
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from huatuo.errors import BpfError
from huatuo.kernel.btf import Btf
from huatuo.kernel.features import missing_program_types
from huatuo.kernel.forms import Program, choose, without_form
from huatuo.kernel.host import Host
from huatuo.kernel.libbpf import check, lib, messages
from huatuo.kernel.maps import Map, Ring
from huatuo.kernel.spliced import spliced

__all__ = ["BpfObject", "Statistics", "statistics_window"]

_NAMED = re.compile(r"libbpf: (prog|map) '([^']+)': (.*)")
_LOAD_ATTEMPTS = 24
_REFUSED = "the kernel refuses this program type (EPERM)"


@dataclass(frozen=True, slots=True)
class Statistics:
    """A program's own cost since it was loaded; counts only while statistics are on."""

    run_time_ns: int
    run_count: int
    recursion_misses: int


class _OpenOptions(c.Structure):
    """The first members of struct bpf_object_open_opts (bpf/libbpf.h): its size, a name."""

    _fields_ = (("size", c.c_size_t), ("name", c.c_char_p))


class BpfObject:
    """Load `path` with `tunables` written into .rodata and attach what this kernel can do.

    Raises BpfError when a role has no form that works; the message names each form's reason.
    Use as a context manager; leaving it detaches and frees everything.
    """

    def __init__(
        self,
        path: Path,
        tunables: Mapping[str, int] | None = None,
        map_sizes: Mapping[str, int] | None = None,
        held: Collection[str] = (),
        shared: Mapping[str, int] | None = None,
        optional: Collection[str] = (),
        bodies: Mapping[str, bytes] | None = None,
    ) -> None:
        self.path = path
        self.btf = Btf.of(path)
        self._tunables = dict(tunables or {})
        self._map_sizes = dict(map_sizes or {})
        self._held = set(held)
        self._shared = dict(shared or {})
        self._optional = set(optional)
        self._bodies = dict(bodies or {})
        self._missing: dict[str, str] = {}
        self._missing_types = missing_program_types(Host())
        self._missing_maps: dict[str, str] = {}
        self._object = 0
        self.programs: list[Program] = []
        self.maps: dict[str, Map] = {}
        self.rings: dict[str, Ring] = {}

    def __enter__(self) -> BpfObject:
        self.load()
        try:
            self.attach()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def load(self) -> None:
        """Load with the first forms that the kernel accepts, without attaching."""
        for _ in range(_LOAD_ATTEMPTS):
            self._open()
            with messages() as log:
                result = lib().bpf_object__load(self._object)
            if result == 0:
                self._collect()
                return
            self._close_object()
            self._learn(log, result)
        raise BpfError(f"{self.path.stem}: no combination of its programs loads", "\n".join(log))

    def attach(self, before: Callable[[BpfObject], None] | None = None) -> None:
        """Attach all programs in use; falls back to other forms where the kernel refuses."""
        while True:
            if before:
                before(self)
            failed = next((p for p in self._attachable() if not self._attach(p)), None)
            if failed is None:
                return
            self.close()
            self.load()

    def attach_held(self, role: str) -> None:
        """Attach the held program of a role now; nothing happens if it is attached already.

        Raises BpfError where the kernel refuses.
        """
        program = next((p for p in self.programs if p.role == role and p.used), None)
        if program is None:
            raise BpfError(self.why_not(role))
        if not program.links and not self._attach(program):
            raise BpfError(f"{program.section}: {self._missing[program.name]}")

    def is_attached(self, role: str) -> bool:
        return any(p.links for p in self.programs if p.role == role)

    def hook_of(self, role: str) -> str:
        """What the role hangs on, or would."""
        return next(p.hook for p in self.programs if p.role == role)

    def why_not(self, role: str) -> str:
        """Why no form of a role can be had, form by form; "" if one is used."""
        forms = [p for p in self.programs if p.role == role]
        if any(p.used for p in forms):
            return ""
        return "; ".join(f"{p.section}: {p.missing}" for p in forms if p.missing)

    def attach_perf_event(self, role: str, event: int) -> None:
        """Run a program on an open perf event, whose descriptor belongs to the object from now on.

        Raises BpfError where the kernel refuses.
        """
        program = next(p for p in self.programs if p.role == role and p.used)
        link = lib().bpf_program__attach_perf_event(program.pointer, event)
        if not link:
            os.close(event)
            raise BpfError(f"{program.name}: cannot attach: {os.strerror(c.get_errno())}")
        program.links.append(link)

    def detach(self, role: str) -> None:
        """From everything the role's program is attached to."""
        for program in self.programs:
            if program.role == role:
                self._detach(program)

    def _detach(self, program: Program) -> None:
        for link in program.links:
            lib().bpf_link__destroy(link)
        program.links.clear()

    def _attachable(self) -> list[Program]:
        return [
            p
            for p in self.programs
            if p.used
            and p.role not in self._held
            and not p.section.startswith(("iter", "perf_event"))
        ]

    def _attach(self, program: Program) -> bool:
        with messages() as log:
            link = lib().bpf_program__attach(program.pointer)
            code = c.get_errno()
        if link:
            program.links.append(link)
            return True
        why = os.strerror(code) if code else "refused"
        for line in log:
            if found := _NAMED.match(line):
                why = found[3]
        self._missing[program.name] = f"cannot attach: {why}"
        return False

    def _open(self) -> None:
        with messages() as log:
            pointer = self._open_file()
        if not pointer:
            raise BpfError(f"{self.path.name}: not a BPF object", "\n".join(log))
        self._object = pointer
        self.programs = self._list_programs()
        choose(self.programs)
        if reasons := without_form(self.programs, self._optional):
            raise BpfError(f"no hook works on this kernel: {reasons}")
        for program in self.programs:
            lib().bpf_program__set_autoload(program.pointer, program.used)
        for name in self._missing_maps:
            lib().bpf_map__set_autocreate(self._map(name), False)
        for name, fd in self._shared.items():
            check(lib().bpf_map__reuse_fd(self._map(name), fd), f"map {name}: cannot be shared")
        for name, entries in self._map_sizes.items():
            lib().bpf_map__set_max_entries(self._map(name), entries)
        self._write_tunables()

    def _open_file(self) -> int | None:
        """libbpf's pointer; None where it refuses the file."""
        pointer: int | None
        if not self._bodies:
            pointer = lib().bpf_object__open_file(os.fsencode(self.path), None)
            return pointer
        image = self.path.read_bytes()
        for function, body in self._bodies.items():
            image = spliced(image, function, body)
        name = self.path.name.removesuffix(".bpf.o").encode()
        options = _OpenOptions(c.sizeof(_OpenOptions), name)
        pointer = lib().bpf_object__open_mem(image, len(image), c.byref(options))
        return pointer

    def _list_programs(self) -> list[Program]:
        found = []
        pointer = lib().bpf_object__next_program(self._object, None)
        while pointer:
            name = lib().bpf_program__name(pointer).decode()
            section = lib().bpf_program__section_name(pointer).decode()
            refused = self._missing_types.get(section.partition("/")[0], "")
            missing = self._missing.get(name, refused)
            found.append(Program(name, section, missing, pointer=pointer))
            pointer = lib().bpf_object__next_program(self._object, pointer)
        return found

    def _learn(self, log: list[str], result: int) -> None:
        """Find in libbpf's words which program or map failed, so the next try goes without it."""
        for line in log:
            found = _NAMED.match(line)
            if not found:
                continue
            kind, name, why = found.groups()
            if kind == "map" and name not in self._missing_maps and "failed to create" in why:
                self._missing_maps[name] = why
                return
            if kind == "prog" and name not in self._missing and "BEGIN PROG LOAD LOG" not in why:
                self._missing[name] = self._reason(why, log)
                if self._missing[name] == _REFUSED:
                    section = next(p.section for p in self.programs if p.name == name)
                    self._missing_types[section.partition("/")[0]] = _REFUSED
                return
        raise BpfError(
            f"{self.path.stem}: cannot be loaded: {os.strerror(-result)}", "\n".join(log)
        )

    def _reason(self, why: str, log: list[str]) -> str:
        text = "\n".join(log)
        for name, reason in self._missing_maps.items():
            if f"map '{name}'" in text or "invalid BPF map reference" in text:
                return f"needs map {name}: {reason}"
        if "Operation not permitted" in why:
            return _REFUSED
        if "kernel BTF type ID" in why or "find kernel BTF" in why:
            return "not in this kernel"
        frame = ("libbpf", "processed", "-- ")
        rejected = [line for line in log if line and not line.startswith(frame)]
        last = rejected[-1].strip() if rejected else ""
        return f"{why}: {last}" if last else why

    def _write_tunables(self) -> None:
        if not self._tunables:
            return
        size = c.c_size_t()
        rodata = next((m for m in self._map_pointers() if m[0].endswith(".rodata")), None)
        variables = self.btf.variables
        for name, value in self._tunables.items():
            if rodata is None or name not in variables:
                raise BpfError(f"{self.path.stem}: has no tunable {name}")
            base = lib().bpf_map__initial_value(rodata[1], c.byref(size))
            variable = variables[name]
            data = int(value).to_bytes(variable.dtype.itemsize, "little")
            c.memmove(base + variable.offset, data, len(data))

    def _map_pointers(self) -> list[tuple[str, int]]:
        found = []
        pointer = lib().bpf_object__next_map(self._object, None)
        while pointer:
            found.append((lib().bpf_map__name(pointer).decode(), pointer))
            pointer = lib().bpf_object__next_map(self._object, pointer)
        return found

    def _map(self, name: str) -> int:
        pointer = lib().bpf_object__find_map_by_name(self._object, name.encode())
        if not pointer:
            raise BpfError(f"{self.path.stem}: has no map {name}")
        return int(pointer)

    def _collect(self) -> None:
        records = self.btf.records
        for map_type in self.btf.maps:
            if map_type.name in self._missing_maps or map_type.name in self._shared:
                continue
            pointer = self._map(map_type.name)
            if map_type.name in records:
                self.rings[map_type.name] = Ring(pointer, records[map_type.name])
            else:
                self.maps[map_type.name] = Map(pointer, map_type.key, map_type.value)

    def run_iterator(self, role: str) -> bytes:
        """Run an `iter/` program over all its objects once; returns what it wrote.

        An empty result where the form in use has no such program.
        """
        program = next((p for p in self.programs if p.role == role and p.used), None)
        if program is None:
            return b""
        link = lib().bpf_program__attach_iter(program.pointer, None)
        if not link:
            raise BpfError(f"{program.name}: cannot run: {os.strerror(c.get_errno())}")
        try:
            fd = check(lib().bpf_iter_create(lib().bpf_link__fd(link)), program.name)
            with open(fd, "rb") as stream:  # noqa: PTH123  (a descriptor, not a path)
                return stream.read()
        finally:
            lib().bpf_link__destroy(link)

    def statistics(self) -> dict[str, Statistics]:
        """Program name → its cost so far."""
        return {
            p.name: _statistics(lib().bpf_program__fd(p.pointer)) for p in self.programs if p.used
        }

    def close(self) -> None:
        """Detach and free; safe to call twice."""
        for program in self.programs:
            self._detach(program)
        for ring in self.rings.values():
            ring.close()
        self.rings.clear()
        self.maps.clear()
        self._close_object()

    def _close_object(self) -> None:
        if self._object:
            lib().bpf_object__close(self._object)
            self._object = 0


_RUN_TIME, _RUN_COUNT, _MISSES, _INFO_SIZE = 192, 200, 208, 232  # struct bpf_prog_info, uapi/bpf.h


def _statistics(fd: int) -> Statistics:
    info = (c.c_char * _INFO_SIZE)()
    size = c.c_uint32(_INFO_SIZE)
    check(lib().bpf_obj_get_info_by_fd(fd, info, c.byref(size)), "statistics of a program")
    raw = bytes(info)
    run_time, run_count, misses = (
        int.from_bytes(raw[at : at + 8], "little") for at in (_RUN_TIME, _RUN_COUNT, _MISSES)
    )
    return Statistics(run_time, run_count, misses)


def statistics_window() -> int:
    """Switch BPF statistics on until the returned descriptor is closed (about 50 ns a run)."""
    return check(lib().bpf_enable_stats(0), "BPF statistics")
