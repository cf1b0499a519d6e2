/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Which packets are wanted, in tcpdump's language: what a probe with packets asks before it makes
 * a record, is_wanted_packet where it has the packet and is_wanted_segment where it knows the ends
 * of a TCP connection only. What is not wanted is not produced: it is in no account. Without a
 * filter both cost nothing.
 *
 * The filter sees an Ethernet frame, always. Where the packet has an Ethernet header that is the
 * one; elsewhere (before the header is written, behind a tunnel, on another kind of link) one is
 * made of the kernel's EtherType and addresses of zeros. A VLAN tag that the kernel keeps beside
 * the packet is put back to where it was on the wire. Lengths are those of this frame. What is no
 * packet (a buffer of a unix or netlink socket) is not wanted, whatever the filter. Bytes can be
 * read as far as they lie in the packet's first piece, which has the headers that the kernel has
 * looked at; a filter that asks for others does not want the packet, as tcpdump does with what it
 * has not captured.
 *
 * For arguments of tp_btf and fentry programs: direct loads of the packet's fields. A program to
 * which its pointer is a number defines PACKET_IS_NUMBER.
 */
#ifndef HUATUO_PACKET_FILTER_H
#define HUATUO_PACKET_FILTER_H

#include "flow.bpf.h"

#ifdef PACKET_IS_NUMBER
#define PACKET_FIELD(skb, field) BPF_CORE_READ(skb, field)
#define PACKET_BITS(skb, field) BPF_CORE_READ_BITFIELD_PROBED(skb, field)
#else
#define PACKET_FIELD(skb, field) ((skb)->field)
#define PACKET_BITS(skb, field) BPF_CORE_READ_BITFIELD(skb, field)
#endif

#define WINDOW 94
#define ETHERNET_ADDRESSES 12
#define ETHERNET_HEADER 14
#define VLAN_TAG 4
#define LONGEST_ETHERNET 64
#define LONGEST_802_3 1500 /* what is no EtherType is a length */
#define FIRST_ETHERTYPE 0x0600
#define UNSET_HEADER 0xffff

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

const volatile bool has_packet_filter = false; /* set by the loader, not a setting */

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct sk_buff___tagged {
	__be16 vlan_proto;
	__u16 vlan_tci;
};

/* commit 354259fa73e2 ("net: remove skb->vlan_present"), v6.2 */
struct sk_buff___before_6_2 {
	__u8 vlan_present : 1;
};

#pragma clang attribute pop

/*
 * A frame: its first bytes, which are on the stack, and the address where the first byte would be
 * if it were not made up; those behind the window never are. The verifier wants accesses to the
 * stack aligned: the IP header is. kernel/cbpf.py knows the layout.
 */
struct packet_view {
	__u8 before[2];
	__u8 window[WINDOW];
	__u64 window_address;
	__u64 address;
	__u32 captured; /* bytes that can be read */
	__u32 length;
};

/* Its body is what the filter says (kernel/cbpf.py); this one is never run. */
__weak __hidden __noinline int packet_filter(const struct packet_view *view)
{
	return view->captured != 0;
}

/* The frame, as a packet of the kernel has it; offsets are from `head`. */
struct packet_place {
	__u64 head;
	__u32 start; /* of the Ethernet header, or of the network header without one */
	__u32 tail;
	__u32 length; /* from `start` on */
	__u16 protocol;
	__u16 tag;
	__u16 tag_protocol; /* 0 if there is no tag beside the packet */
	bool has_ethernet;
};

/* In the network's order. */
static __always_inline void put(__u8 *at, __u16 value)
{
	at[0] = value >> 8;
	at[1] = value;
}

static __always_inline __u16 read_be16(__u64 address)
{
	__be16 value = 0;

	bpf_probe_read_kernel(&value, sizeof(value), (void *)address);
	return bpf_ntohs(value);
}

/* `made` bytes of the window are there; those from `body` on follow. */
static __always_inline void add_body(struct packet_view *view, __u32 made, __u64 body, __u32 size,
				     __u32 length)
{
	view->address = body - made;
	view->captured = size + made;
	view->length = length + made;
	if (size > WINDOW - made)
		size = WINDOW - made;
	bpf_probe_read_kernel(view->window + made, size, (void *)body);
}

/* Whether there is an Ethernet header: it says of what comes next what the kernel says. */
static __always_inline bool is_ethernet(__u64 head, __u32 mac, __u32 network, __u16 protocol)
{
	__u16 first, last;

	if (mac == UNSET_HEADER || mac + ETHERNET_HEADER > network ||
	    network - mac > LONGEST_ETHERNET)
		return false;
	first = read_be16(head + mac + ETHERNET_ADDRESSES);
	last = first;
	if (network - mac > ETHERNET_HEADER)
		last = read_be16(head + network - sizeof(last));
	return first == protocol || last == protocol ||
	       (protocol < FIRST_ETHERTYPE && last <= LONGEST_802_3);
}

static __always_inline void find_tag(struct packet_place *place, void *skb)
{
	struct sk_buff___before_6_2 *old = skb;
	struct sk_buff___tagged *tagged = skb;

	if (bpf_core_field_exists(old->vlan_present) && !PACKET_BITS(old, vlan_present))
		return;
	place->tag_protocol = bpf_ntohs(PACKET_FIELD(tagged, vlan_proto));
	if (place->tag_protocol)
		place->tag = PACKET_FIELD(tagged, vlan_tci);
}

/* Where the network header is; before anybody has said so, behind an Ethernet header or first. */
static __always_inline __u32 network_start(struct sk_buff *skb, __u32 mac, __u32 data)
{
	__u32 network = PACKET_FIELD(skb, network_header);

	if (network)
		return network;
	return mac == UNSET_HEADER ? data : mac + ETHERNET_HEADER;
}

/* `network`: offset of the network header, 0 if the packet knows. False if it is no packet. */
static __always_inline bool find_place(struct packet_place *place, struct sk_buff *skb,
				       __u32 network)
{
	__u64 head = (__u64)PACKET_FIELD(skb, head);
	__u32 data = (__u64)PACKET_FIELD(skb, data) - head, mac = PACKET_FIELD(skb, mac_header);

	__builtin_memset(place, 0, sizeof(*place));
	place->protocol = bpf_ntohs(PACKET_FIELD(skb, protocol));
	place->tail = PACKET_FIELD(skb, tail);
	if (!network)
		network = network_start(skb, mac, data);
	if (!place->protocol || network > place->tail)
		return false;
	place->head = head;
	place->has_ethernet = is_ethernet(head, mac, network, place->protocol);
	place->start = place->has_ethernet ? mac : network;
	place->length = PACKET_FIELD(skb, len) + data - place->start;
	find_tag(place, skb);
	return place->start < place->tail;
}

static __always_inline void view_packet(struct packet_view *view, const struct packet_place *place)
{
	__u32 captured = place->tail - place->start;
	__u64 at = place->head + place->start;

	__builtin_memset(view, 0, sizeof(*view));
	if (place->tag_protocol) {
		put(view->window + ETHERNET_ADDRESSES, place->tag_protocol);
		put(view->window + ETHERNET_ADDRESSES + 2, place->tag);
	}
	if (place->has_ethernet && place->tag_protocol) {
		bpf_probe_read_kernel(view->window, ETHERNET_ADDRESSES, (void *)at);
		add_body(view, ETHERNET_ADDRESSES + VLAN_TAG, at + ETHERNET_ADDRESSES,
			 captured - ETHERNET_ADDRESSES, place->length - ETHERNET_ADDRESSES);
	} else if (place->has_ethernet) {
		add_body(view, 0, at, captured, place->length);
	} else if (place->tag_protocol) {
		put(view->window + ETHERNET_ADDRESSES + VLAN_TAG, place->protocol);
		add_body(view, ETHERNET_HEADER + VLAN_TAG, at, captured, place->length);
	} else {
		put(view->window + ETHERNET_ADDRESSES, place->protocol);
		add_body(view, ETHERNET_HEADER, at, captured, place->length);
	}
}

static __always_inline bool is_wanted_view(struct packet_view *view)
{
	view->window_address = (__u64)view->window;
	/* Onto itself: to the verifier all is unknown now, and the address is a number. */
	bpf_probe_read_kernel(view, sizeof(*view), view);
	return packet_filter(view);
}

/* `network`: offset of the network header, where the packet does not know yet. */
static __always_inline bool is_wanted_packet_at(struct sk_buff *skb, __u32 network)
{
	struct packet_place place;
	struct packet_view view;

	if (!has_packet_filter)
		return true;
	if (!find_place(&place, skb, network))
		return false;
	view_packet(&view, &place);
	return is_wanted_view(&view);
}

static __always_inline bool is_wanted_packet(struct sk_buff *skb)
{
	return is_wanted_packet_at(skb, 0);
}

#define IPV4_HEADER 20
#define IPV6_HEADER 40
#define TCP_HEADER 20

/* What is known of a TCP segment without having it. */
struct segment_outline {
	__u32 sequence;
	__u32 size; /* of its data */
	__u8 flags;
};

static __always_inline bool is_mapped_ipv4(const __u8 *address)
{
	const __u32 *words = (const __u32 *)address;

	return !words[0] && !words[1] && words[2] == bpf_htonl(0xffff);
}

static __always_inline void put_ipv4(__u8 *ip, const struct packet_ends *ends, __u32 size)
{
	ip[0] = 0x45;
	put(ip + 2, IPV4_HEADER + size);
	ip[8] = 64;
	ip[9] = IPPROTO_TCP;
	__builtin_memcpy(ip + 12, ends->source + 12, 4);
	__builtin_memcpy(ip + 16, ends->destination + 12, 4);
}

static __always_inline void put_ipv6(__u8 *ip, const struct packet_ends *ends, __u32 size)
{
	ip[0] = 0x60;
	put(ip + 4, size);
	ip[6] = IPPROTO_TCP;
	ip[7] = 64;
	__builtin_memcpy(ip + 8, ends->source, 16);
	__builtin_memcpy(ip + 24, ends->destination, 16);
}

static __always_inline void put_tcp(__u8 *tcp, const struct packet_ends *ends,
				    const struct segment_outline *segment)
{
	put(tcp, ends->source_port);
	put(tcp + 2, ends->destination_port);
	put(tcp + 4, segment->sequence >> 16);
	put(tcp + 6, segment->sequence);
	tcp[12] = TCP_HEADER / 4 << 4;
	tcp[13] = segment->flags;
}

static __always_inline void view_segment(struct packet_view *view, const struct packet_ends *ends,
					 const struct segment_outline *segment)
{
	bool is_ipv4 = is_mapped_ipv4(ends->source) && is_mapped_ipv4(ends->destination);
	__u8 *ip = view->window + ETHERNET_HEADER;
	__u32 size = TCP_HEADER + segment->size;

	__builtin_memset(view, 0, sizeof(*view));
	if (is_ipv4) {
		put(view->window + ETHERNET_ADDRESSES, ETH_P_IP);
		put_ipv4(ip, ends, size);
		put_tcp(ip + IPV4_HEADER, ends, segment);
	} else {
		put(view->window + ETHERNET_ADDRESSES, ETH_P_IPV6);
		put_ipv6(ip, ends, size);
		put_tcp(ip + IPV6_HEADER, ends, segment);
	}
	view->captured = ETHERNET_HEADER + (is_ipv4 ? IPV4_HEADER : IPV6_HEADER) + TCP_HEADER;
	view->length = view->captured + segment->size;
}

/*
 * For what is known by its ends. The frame has the headers, with ports, flags and sequence number,
 * and no data: a filter that asks for these does not want it.
 */
static __always_inline bool is_wanted_segment(const struct packet_ends *ends,
					      const struct segment_outline *segment)
{
	struct packet_view view;

	if (!has_packet_filter)
		return true;
	view_segment(&view, ends, segment);
	return is_wanted_view(&view);
}

/* A segment that this socket sends. */
static __always_inline bool is_wanted_sent(struct sock_common *common,
					   const struct segment_outline *segment)
{
	struct packet_ends ends;

	if (!has_packet_filter)
		return true;
	fill_ends(common, ends.source, ends.destination, &ends.source_port, &ends.destination_port);
	return is_wanted_segment(&ends, segment);
}

/* A segment that this socket has received. */
static __always_inline bool is_wanted_received(struct sock_common *common,
					       const struct segment_outline *segment)
{
	struct packet_ends ends;

	if (!has_packet_filter)
		return true;
	fill_ends(common, ends.destination, ends.source, &ends.destination_port, &ends.source_port);
	return is_wanted_segment(&ends, segment);
}

#endif
