// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Packets that a network card or switch dropped itself and reports through devlink: the tracepoint
 * devlink:devlink_trap_report (net/devlink/trap.c). The driver hands over the packet with the name
 * of the trap, such as ttl_value_is_too_small; traps that the administrator has set to do so also
 * let packets through to the CPU (exceptions and control traffic), which are no drops.
 */
#include "event.bpf.h"
#define PACKET_IS_NUMBER
#include "packet_filter.bpf.h"

#define NAME 48
#define NOT_SET 0xffff /* mac_header of a packet */

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

enum devlink_trap_type { /* include/uapi/linux/devlink.h */
			 DEVLINK_TRAP_TYPE_DROP,
			 DEVLINK_TRAP_TYPE_EXCEPTION,
			 DEVLINK_TRAP_TYPE_CONTROL,
};

struct devlink_trap_metadata {
	const char *trap_name;
	const char *trap_group_name;
	struct net_device *input_dev;
	enum devlink_trap_type trap_type;
};

#pragma clang attribute pop

struct trap_key {
	char trap[NAME] DOC("name of the trap");
	enum devlink_trap_type type DOC("whether the packet was dropped");
};

struct trap_row {
	counter_t packets DOC("packets that the hardware reported");
};

COUNTERS(traps, struct trap_key, struct trap_row);

struct trapped_packet {
	ktime_ns_t time DOC("when it was reported");
	bytes_t length DOC("of the packet");
	packet_t packet DOC("its first bytes; only the headers in them leave the probe");
	char trap[NAME] DOC("why, by the name of the trap");
	char group[NAME] DOC("group of traps that are set together");
	enum devlink_trap_type type DOC("whether the packet was dropped");
	netns_t netns DOC("network namespace of the device");
	ifindex_t ifindex DOC("device that received it");
	__u16 protocol DOC("EtherType");
	__u16 captured DOC("bytes valid in packet");
	__u16 network_offset DOC("of the network header in packet");
};

RING(trapped_packets, struct trapped_packet, 128 * 1024);

static const struct trap_row empty_row;

/* From the link header on, if the driver has said where that is. */
static __always_inline void copy_packet(struct trapped_packet *record, struct sk_buff *skb)
{
	__u64 head = (__u64)BPF_CORE_READ(skb, head), data = (__u64)BPF_CORE_READ(skb, data);
	__u32 start = BPF_CORE_READ(skb, mac_header), network = BPF_CORE_READ(skb, network_header);
	__u32 end = BPF_CORE_READ(skb, tail), size;

	if (start == NOT_SET)
		start = data - head;
	size = end > start ? end - start : 0;
	if (size > PACKET_BYTES)
		size = PACKET_BYTES;
	if (!bpf_probe_read_kernel(record->packet, size, (void *)(head + start)))
		record->captured = size;
	record->network_offset = network > start && network - start < size ? network - start : 14;
}

/* Not tp_btf: this is rare, and a test can run it with packets of its own. */
SEC("raw_tp/devlink_trap_report")
int BPF_PROG(devlink_trap_report, void *devlink, struct sk_buff *skb,
	     struct devlink_trap_metadata *metadata)
{
	__u64 now = bpf_ktime_get_ns();
	struct trapped_packet *record;
	struct net_device *device;
	struct trap_key key;
	struct trap_row *row;

	__builtin_memset(&key, 0, sizeof(key));
	bpf_probe_read_kernel_str(key.trap, NAME, BPF_CORE_READ(metadata, trap_name));
	key.type = BPF_CORE_READ(metadata, trap_type);
	row = counter_row(&traps, &key, &empty_row);
	if (row)
		COUNT_UP(row->packets, 1);
	if (!is_wanted_packet(skb))
		return 0;
	record = event_reserve(&trapped_packets, sizeof(*record), 0, now);
	if (!record)
		return 0;
	__builtin_memset(record, 0, sizeof(*record));
	record->time = now;
	record->length = BPF_CORE_READ(skb, len);
	__builtin_memcpy(record->trap, key.trap, sizeof(key.trap));
	bpf_probe_read_kernel_str(record->group, NAME, BPF_CORE_READ(metadata, trap_group_name));
	record->type = key.type;
	device = BPF_CORE_READ(metadata, input_dev);
	record->netns = BPF_CORE_READ(device, nd_net.net, ns.inum);
	record->ifindex = BPF_CORE_READ(device, ifindex);
	record->protocol = bpf_ntohs(BPF_CORE_READ(skb, protocol));
	copy_packet(record, skb);
	ring_submit(&trapped_packets, record);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
