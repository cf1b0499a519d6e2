// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* One program for each way to hook the kernel; attach.py loads them one at a time. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} hits SEC(".maps");

static __always_inline int count(void)
{
	__u32 key = 0;
	__u64 *value = bpf_map_lookup_elem(&hits, &key);

	if (value)
		__sync_fetch_and_add(value, 1);
	return 0;
}

#define HOOK(name, section)     \
	SEC(section)            \
	int name(void *ctx)     \
	{                       \
		(void)ctx;      \
		return count(); \
	}

HOOK(tp_btf, "tp_btf/sched_switch")
HOOK(raw_tp, "raw_tp/sched_switch")
HOOK(tracepoint, "tracepoint/sched/sched_switch")
HOOK(fentry, "fentry/vfs_read")
HOOK(fexit, "fexit/vfs_read")
HOOK(kprobe, "kprobe/vfs_read")
HOOK(kretprobe, "kretprobe/vfs_read")
HOOK(kprobe_multi, "kprobe.multi/vfs_read")
HOOK(uprobe, "uprobe/libc.so.6:getpid")

char LICENSE[] SEC("license") = "Dual BSD/GPL";
