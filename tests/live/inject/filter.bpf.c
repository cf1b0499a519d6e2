// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Test only, run by BPF_PROG_TEST_RUN: the answers of a packet filter on bytes of a map. */
#include "packet_filter.bpf.h"

#define LARGEST 2048
#define PACKETS 256

struct packet {
	__u32 captured;
	__u32 length;
	__u8 bytes[LARGEST];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, PACKETS);
	__type(key, __u32);
	__type(value, struct packet);
} packets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, PACKETS);
	__type(key, __u32);
	__type(value, __u64);
} answers SEC(".maps");

/* An address as a plain number: the verifier lets nobody calculate freely with a map's. */
static __always_inline __u64 plain(const void *address)
{
	__u64 number = 0;

	bpf_probe_read_kernel(&number, sizeof(number), &address);
	return number;
}

/* Argument: number of the packet. */
SEC("raw_tp")
int filtered(struct bpf_raw_tracepoint_args *context)
{
	__u32 number = context->args[0];
	struct packet *packet = bpf_map_lookup_elem(&packets, &number);
	__u64 *answer = bpf_map_lookup_elem(&answers, &number);
	struct packet_view view = {};

	if (!packet || !answer)
		return 0;
	add_body(&view, 0, plain(packet->bytes), packet->captured, packet->length);
	*answer = is_wanted_view(&view);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
