/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The ends of a packet, read from its headers, and which TCP flows lost packets on this host:
 * net.drop writes the table, net.retransmit looks up the flow of a segment that had to be sent
 * again.
 */
#ifndef HUATUO_FLOW_H
#define HUATUO_FLOW_H

#include "socket.bpf.h"

#define FLOW_DROPS 4096

struct packet_ends {
	__u8 source[16]; /* IPv4 as ::ffff:a.b.c.d */
	__u8 destination[16];
	__u32 sequence; /* of TCP */
	__u16 source_port;
	__u16 destination_port;
	__u8 protocol; /* IPPROTO_…; 0 if it is not IP */
};

struct transport_start { /* of a TCP header, and the ports of a UDP header */
	__be16 source;
	__be16 destination;
	__be32 sequence;
};

struct ipv4_header {
	__u8 version_and_words;
	__u8 service;
	__be16 length;
	__be16 id;
	__be16 fragment;
	__u8 hops;
	__u8 protocol;
	__be16 checksum;
	__be32 source;
	__be32 destination;
};

struct ipv6_header {
	__be32 version;
	__be16 length;
	__u8 protocol;
	__u8 hops;
	__u8 source[16];
	__u8 destination[16];
};

/* Both return where the transport header begins; 0 if there is none. */
static __always_inline __u32 read_ipv4(__u64 at, struct packet_ends *ends)
{
	struct ipv4_header ip;

	if (bpf_probe_read_kernel(&ip, sizeof(ip), (void *)at))
		return 0;
	map_ipv4(ends->source, ip.source);
	map_ipv4(ends->destination, ip.destination);
	ends->protocol = ip.protocol;
	return ip.fragment & bpf_htons(0x1fff) ? 0 : (ip.version_and_words & 15) * 4;
}

/* Extension headers are not followed: TCP and UDP hardly have them. */
static __always_inline __u32 read_ipv6(__u64 at, struct packet_ends *ends)
{
	struct ipv6_header ip;

	if (bpf_probe_read_kernel(&ip, sizeof(ip), (void *)at))
		return 0;
	__builtin_memcpy(ends->source, ip.source, 16);
	__builtin_memcpy(ends->destination, ip.destination, 16);
	ends->protocol = ip.protocol;
	return sizeof(ip);
}

/* Of the packet whose network header is at `at`. */
static __always_inline void read_ends_at(struct sk_buff *skb, __u64 at, struct packet_ends *ends)
{
	__u32 protocol = bpf_ntohs(skb->protocol), size = 0;
	struct transport_start start;

	__builtin_memset(ends, 0, sizeof(*ends)); /* for the verifier, too */
	if (protocol == ETH_P_IP)
		size = read_ipv4(at, ends);
	else if (protocol == ETH_P_IPV6)
		size = read_ipv6(at, ends);
	if (!size || (ends->protocol != IPPROTO_TCP && ends->protocol != IPPROTO_UDP) ||
	    bpf_probe_read_kernel(&start, sizeof(start), (void *)(at + size)))
		return;
	ends->source_port = bpf_ntohs(start.source);
	ends->destination_port = bpf_ntohs(start.destination);
	ends->sequence = bpf_ntohl(start.sequence);
}

static __always_inline void read_ends(struct sk_buff *skb, struct packet_ends *ends)
{
	if (skb->network_header)
		read_ends_at(skb, (__u64)skb->head + skb->network_header, ends);
	else
		__builtin_memset(ends, 0, sizeof(*ends));
}

/* A record about what was received: this end is where it went to. */
#define FILL_RECEIVED(record, ends)                                                 \
	do {                                                                        \
		__builtin_memcpy((record)->local_address, (ends)->destination, 16); \
		__builtin_memcpy((record)->remote_address, (ends)->source, 16);     \
		(record)->local_port = (ends)->destination_port;                    \
		(record)->remote_port = (ends)->source_port;                        \
	} while (0)

static __always_inline __u64 end_hash(const __u8 *address, __u16 port)
{
	__u64 hash = (*(__u64 *)address + port) * 0x9e3779b97f4a7c15ULL;

	hash = (hash ^ hash >> 29 ^ *(__u64 *)(address + 8)) * 0xbf58476d1ce4e5b9ULL;
	return hash ^ hash >> 32;
}

/* The same in both directions; never 0. */
static __always_inline __u64 flow_hash(const __u8 *one, __u16 one_port, const __u8 *other,
				       __u16 other_port)
{
	return (end_hash(one, one_port) + end_hash(other, other_port)) | 1;
}

struct flow_drop {
	__u64 flow; /* 0: empty, or being written */
	__u64 time;
	__u64 location;
	__u32 reason;
	__u32 sequence;
};

/* Each flow has one place in the table; of flows that share one the last is known. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, FLOW_DROPS);
	__type(key, __u32);
	__type(value, struct flow_drop);
} flow_drops SEC(".maps");

static __always_inline struct flow_drop *flow_place(__u64 flow)
{
	__u32 at = (flow >> 8) % FLOW_DROPS;

	return bpf_map_lookup_elem(&flow_drops, &at);
}

static __always_inline void remember_drop(struct sk_buff *skb, void *location, __u32 reason,
					  __u64 now)
{
	struct packet_ends ends;
	struct flow_drop *place;
	__u64 flow;

	read_ends(skb, &ends);
	if (ends.protocol != IPPROTO_TCP)
		return;
	flow = flow_hash(ends.source, ends.source_port, ends.destination, ends.destination_port);
	place = flow_place(flow);
	if (!place)
		return;
	place->flow = 0;
	barrier();
	place->time = now;
	place->location = (__u64)location;
	place->reason = reason;
	place->sequence = ends.sequence;
	barrier();
	place->flow = flow;
}

/* Whether a packet of the flow was dropped here at most `window` ns ago, copied to `found`. */
static __always_inline bool find_drop(__u64 flow, __u64 now, __u64 window, struct flow_drop *found)
{
	struct flow_drop *place = flow_place(flow);

	if (!place || place->flow != flow)
		return false;
	*found = *place;
	barrier();
	return place->flow == flow && now - found->time <= window;
}

#endif
