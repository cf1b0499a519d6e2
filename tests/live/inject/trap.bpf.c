// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Test only: what a driver hands to devlink_trap_report(), laid out as on the running kernel in the
 * value of a map, whose addresses the kernel can read. `wanted` says what is to be in it.
 */
#include "record.bpf.h"
#include "flow.bpf.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

enum devlink_trap_type {
	DEVLINK_TRAP_TYPE_DROP,
};

struct devlink_trap_metadata {
	const char *trap_name;
	const char *trap_group_name;
	struct net_device *input_dev;
	enum devlink_trap_type trap_type;
};

#pragma clang attribute pop

struct wanted {
	char name[32];
	char group[32];
	__u8 packet[256];
	__u32 length;
	__u32 type;
	__u32 ifindex;
	__u32 netns;
	__u32 has_link_header;
};

/* Places in the memory. */
#define SKB 0
#define DEVICE 1024
#define NETNS 4096
#define METADATA 8192
#define MEMORY 16384

struct memory {
	__u8 bytes[MEMORY];
	struct wanted wanted;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct memory);
} memory SEC(".maps");

struct arguments {
	__u64 devlink;
	__u64 skb;
	__u64 metadata;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct arguments);
} arguments SEC(".maps");

#define PUT(type, place, member, kind, value) \
	(*(kind *)(at->bytes + place + bpf_core_field_offset(type, member)) = (kind)(value))

SEC("raw_tp/sys_enter")
int lay_out(void *context)
{
	__u32 zero = 0;
	struct memory *at = bpf_map_lookup_elem(&memory, &zero);
	struct arguments *found = bpf_map_lookup_elem(&arguments, &zero);
	__u64 packet;

	if (!at || !found)
		return 0;
	packet = (__u64)at->wanted.packet;
	PUT(struct sk_buff, SKB, head, __u64, packet);
	PUT(struct sk_buff, SKB, data, __u64, packet + (at->wanted.has_link_header ? 14 : 0));
	PUT(struct sk_buff, SKB, mac_header, __u16, at->wanted.has_link_header ? 0 : 0xffff);
	PUT(struct sk_buff, SKB, network_header, __u16, 14);
	PUT(struct sk_buff, SKB, tail, __u32, at->wanted.length);
	PUT(struct sk_buff, SKB, len, __u32, at->wanted.length);
	PUT(struct sk_buff, SKB, protocol, __u16, bpf_htons(ETH_P_IP));
	PUT(struct net_device, DEVICE, ifindex, __u32, at->wanted.ifindex);
	PUT(struct net_device, DEVICE, nd_net.net, __u64, at->bytes + NETNS);
	PUT(struct net, NETNS, ns.inum, __u32, at->wanted.netns);
	PUT(struct devlink_trap_metadata, METADATA, trap_name, __u64, at->wanted.name);
	PUT(struct devlink_trap_metadata, METADATA, trap_group_name, __u64, at->wanted.group);
	PUT(struct devlink_trap_metadata, METADATA, input_dev, __u64, at->bytes + DEVICE);
	PUT(struct devlink_trap_metadata, METADATA, trap_type, __u32, at->wanted.type);
	found->skb = (__u64)(at->bytes + SKB);
	found->metadata = (__u64)(at->bytes + METADATA);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
