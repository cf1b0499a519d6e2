"""BPF maps as numpy arrays, and rings as batches.

Reading is one batch system call where the kernel has it for the map's type, key by key otherwise.
Values of per-CPU maps are summed over CPUs: all their members are unsigned 64-bit words.
"""

from __future__ import annotations

import ctypes as c
import errno
import os
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from huatuo.errors import BpfError
from huatuo.kernel.libbpf import check, lib
from huatuo.model.record import Schema

__all__ = ["Map", "Ring", "possible_cpus"]

_PERCPU_TYPES = {5, 6, 10, 21}  # PERCPU_HASH, PERCPU_ARRAY, LRU_PERCPU_HASH, PERCPU_CGROUP_STORAGE
_ARRAY_TYPES = {2, 6}
_ENOTSUPP = 524  # the kernel's own, not in errno
_BATCH = 1024
Rows = npt.NDArray[np.void]


@cache
def possible_cpus() -> int:
    """CPUs the kernel may ever bring up: the number of values in a per-CPU map."""
    return check(lib().libbpf_num_possible_cpus(), "number of possible CPUs")


class Map:
    """An open map. `key` and `value` are its schemas; values of per-CPU maps come summed."""

    def __init__(self, pointer: int, key: Schema | None, value: Schema | None) -> None:
        self.name: str = lib().bpf_map__name(pointer).decode()
        self.fd: int = lib().bpf_map__fd(pointer)
        self.key, self.value = key, value
        self.max_entries: int = lib().bpf_map__max_entries(pointer)
        kind = lib().bpf_map__type(pointer)
        self._key_size: int = lib().bpf_map__key_size(pointer)
        self._value_size: int = lib().bpf_map__value_size(pointer)
        self.is_percpu = kind in _PERCPU_TYPES
        self._is_array = kind in _ARRAY_TYPES
        self._batch = True
        if self.is_percpu:
            self._stored_size = (self._value_size + 7) // 8 * 8 * possible_cpus()
        else:
            self._stored_size = self._value_size

    def read(self, limit: int | None = None) -> tuple[Rows, Rows]:
        """All entries as (keys, values), each of shape (n,); of an array map the first `limit`."""
        room = min(self.max_entries, limit or self.max_entries)
        if self._batch:
            try:
                return self._typed(*self._read_batch(room))
            except OSError as error:
                if error.errno not in (_ENOTSUPP, errno.EINVAL, errno.EOPNOTSUPP):
                    raise
                self._batch = False  # per-CPU arrays before v5.13
        return self._typed(*self._read_each(room))

    def _read_batch(self, room: int) -> tuple[bytearray, bytearray]:
        all_keys, all_values = bytearray(), bytearray()
        chunk = min(room, _BATCH)
        keys = (c.c_char * (self._key_size * chunk))()
        values = (c.c_char * (self._stored_size * chunk))()
        state = (c.c_char * max(self._key_size, 8))()
        read = 0
        while read < room or not self._is_array:
            count = c.c_uint32(min(chunk, room - read) if self._is_array else chunk)
            result = lib().bpf_map_lookup_batch(
                self.fd, state if read else None, state, keys, values, c.byref(count), None
            )
            if result == -errno.ENOSPC:  # a hash bucket does not fit: a larger chunk
                chunk *= 2
                keys = (c.c_char * (self._key_size * chunk))()
                values = (c.c_char * (self._stored_size * chunk))()
                continue
            if result < 0 and result != -errno.ENOENT:
                raise OSError(-result, f"map {self.name}: cannot be read")
            all_keys += memoryview(keys)[: count.value * self._key_size]
            all_values += memoryview(values)[: count.value * self._stored_size]
            read += count.value
            if result == -errno.ENOENT:
                break
        return all_keys, all_values

    def _read_each(self, room: int) -> tuple[bytearray, bytearray]:
        all_keys, all_values = bytearray(), bytearray()
        key = (c.c_char * self._key_size)()
        value = (c.c_char * self._stored_size)()
        previous = None
        for _ in range(room):
            if lib().bpf_map_get_next_key(self.fd, previous, key) < 0:
                break
            if lib().bpf_map_lookup_elem(self.fd, key, value) == 0:
                all_keys += key.raw
                all_values += value.raw
            previous = key
        return all_keys, all_values

    def _typed(self, keys: bytearray, values: bytearray) -> tuple[Rows, Rows]:
        assert self.key is not None and self.value is not None
        typed_keys = np.frombuffer(keys, self.key.dtype)
        if self.is_percpu:
            shape = (len(typed_keys), possible_cpus(), self._stored_size // possible_cpus() // 8)
            words = np.frombuffer(values, np.uint64).reshape(shape)
            summed = np.ascontiguousarray(words.sum(axis=1, dtype=np.uint64))
            return typed_keys, summed.view(self.value.dtype).reshape(len(typed_keys))
        return typed_keys, np.frombuffer(values, self.value.dtype)

    def update(self, key: bytes | None, value: bytes) -> None:
        """Raises OSError, for example ENOSPC when the map is full."""
        if self.is_percpu:
            padded = value.ljust(self._stored_size // possible_cpus(), b"\0")
            value = padded * possible_cpus()
        check(lib().bpf_map_update_elem(self.fd, key, value, 0), f"map {self.name}: update")

    def delete(self, key: bytes) -> bool:
        """Whether the key was there."""
        return bool(lib().bpf_map_delete_elem(self.fd, key) == 0)


@cache
def _native() -> c.CDLL:
    path = Path(__file__).with_name("_native.so")
    if not path.exists():
        raise BpfError(f"{path.name} is not built: rings cannot be read; run `make build`")
    library = c.CDLL(str(path))
    library.huatuo_ring_open.argtypes = [c.c_int, c.c_size_t, c.POINTER(c.c_void_p)]
    library.huatuo_ring_close.argtypes = [c.c_void_p]
    library.huatuo_ring_drain.argtypes = [c.c_void_p, c.c_void_p, c.c_size_t, c.c_size_t]
    library.huatuo_ring_drain.restype = c.c_long
    return library


class Ring:
    """A BPF ring of fixed-size records; `fd` becomes readable when the kernel wakes us."""

    def __init__(self, pointer: int, schema: Schema) -> None:
        self.name: str = lib().bpf_map__name(pointer).decode()
        self.fd: int = lib().bpf_map__fd(pointer)
        self.schema = schema
        size = lib().bpf_map__max_entries(pointer)
        self._ring = c.c_void_p()
        result = _native().huatuo_ring_open(self.fd, size, c.byref(self._ring))
        if result < 0:
            raise OSError(-result, f"ring {self.name}: {os.strerror(-result)}")
        room = size // (schema.dtype.itemsize + 8) + 1
        self._buffer = np.empty(room, schema.dtype)
        self._address: int = self._buffer.ctypes.data  # asked for each time it costs a microsecond
        self._nothing = self._buffer[:0].copy()

    def drain(self) -> Rows:
        """What is in the ring now, shape (n,), a copy that the caller owns."""
        if not self._ring:
            raise BpfError(f"ring {self.name}: is closed")
        count = _native().huatuo_ring_drain(
            self._ring, self._address, self._buffer.itemsize, len(self._buffer)
        )
        if count < 0:
            raise BpfError(
                f"ring {self.name}: holds records of another size than struct {self.schema.name}"
            )
        return self._buffer[:count].copy() if count else self._nothing

    def close(self) -> None:
        _native().huatuo_ring_close(self._ring)
        self._ring = c.c_void_p()
