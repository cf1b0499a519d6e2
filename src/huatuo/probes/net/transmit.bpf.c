// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * How long packets wait in a queueing discipline on their way out, and how long TCP's took to get
 * there: the tracepoints qdisc:qdisc_enqueue (net/core/dev.c) and qdisc:qdisc_dequeue
 * (net/sched/sch_generic.c). A packet that finds an empty queue passes it by on most devices, and
 * then none of this runs: what is in the histograms is packets that were queued.
 *
 * When a packet was queued is kept in a table without a lock, one word per packet: 16 bits to know
 * it by and 48 of the time. Of packets that share a place the last is known. The word is written
 * after the packet was queued, when it may be gone already: nothing of the packet is trusted there.
 *
 * TCP stamps its packets with the time that they may leave at the earliest, so what it paces itself
 * is told apart from what it has to wait.
 */
#include "event.bpf.h"
#include "histogram.bpf.h"
#include "owner.bpf.h"
#include "packet_filter.bpf.h"

#define PLACES 65536
#define TIME_BITS 48
#define TIME_MASK ((1ULL << TIME_BITS) - 1)
#define BULK 16 /* packets that leave together are looked at */

const volatile duration_ns_t queue_threshold
	DOC("packets that wait this long in a queueing discipline are events") = 50000000;
const volatile duration_ns_t stack_threshold DOC(
	"TCP segments that reach the queue this long after TCP sent them are events") = 10000000;

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct Qdisc_ops {
	char id[16];
};

struct qdisc_skb_head {
	__u32 qlen;
};

struct Qdisc {
	const struct Qdisc_ops *ops;
	struct qdisc_skb_head q;
};

#pragma clang attribute pop

enum protocol {
	PROTOCOL_TCP,
	PROTOCOL_UDP,
	PROTOCOL_OTHER,
};

/* Where no socket tells the container its network namespace stands in for it. */
struct queue_key {
	cgroup_id_t cgroup DOC("container that sends");
	netns_t netns DOC("network namespace, if no socket tells the container");
} KEY;

struct queue_row {
	duration_histogram_t queue DOC(
		"time that packets waited in a queueing discipline, beyond TCP's own pacing; those "
		"that found it empty and passed it by are not counted");
	duration_histogram_t stack DOC(
		"time from TCP's sending of a segment to the queueing discipline; of those that "
		"had to wait there");
};

COUNTERS(queues, struct queue_key, struct queue_row);

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, PLACES);
	__type(key, __u32);
	__type(value, __u64);
} queued SEC(".maps");

struct { /* what is in the table from before is of packets that are gone */
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} window_began SEC(".maps");

struct late_transmission {
	ktime_ns_t time DOC("when it left the queue");
	cgroup_id_t cgroup DOC("container that sends");
	duration_ns_t queue DOC("how long it waited in the queueing discipline");
	duration_ns_t stack DOC("how long it took from TCP to the queue; 0 if not TCP");
	bytes_t length DOC("of the packet");
	ip_address_t local_address DOC("where it comes from");
	ip_address_t remote_address DOC("where it goes to");
	enum protocol protocol DOC("of the packet");
	netns_t netns DOC("network namespace of the socket, or of the device");
	ifindex_t ifindex DOC("device that sends it");
	__u32 packets DOC("that left together, it being the first of them");
	__u32 waiting DOC("packets that still wait behind these");
	tgid_t tgid DOC("process that connected or listened; 0 if unknown");
	comm_t comm DOC("name of that process");
	comm_t qdisc DOC("kind of the queueing discipline");
	__u16 local_port DOC("where it comes from");
	__u16 remote_port DOC("where it goes to");
};

RING(late_transmissions, struct late_transmission, 128 * 1024);

static const struct queue_row empty_row;

struct { /* a pointer that was written to a map is a number when it is read again */
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} scratch SEC(".maps");

static __always_inline __u64 address_of(struct sk_buff *skb)
{
	__u32 zero = 0;
	volatile __u64 *word = bpf_map_lookup_elem(&scratch, &zero);

	if (!word)
		return 0;
	*word = (__u64)skb;
	return *word;
}

/* A packet is known by its address and its buffer's, which are hardly together twice. */
static __always_inline __u64 hash_of(__u64 address, struct sk_buff *skb)
{
	__u64 head = (__u64)BPF_CORE_READ(skb, head), hash;

	hash = (address ^ head << 20 ^ head >> 44) * 0x9e3779b97f4a7c15ULL;
	return hash ^ hash >> 32;
}

static __always_inline __u64 *place_of(__u64 hash)
{
	__u32 at = hash % PLACES;

	return bpf_map_lookup_elem(&queued, &at);
}

/* For raw_tp programs, to which pointers are numbers. */
static __always_inline int enqueued(struct sk_buff *skb)
{
	__u64 hash = hash_of((__u64)skb, skb);
	__u64 *place = place_of(hash);

	if (place)
		*place = (hash & ~TIME_MASK) | (bpf_ktime_get_ns() & TIME_MASK);
	return 0;
}

/* Since when it has been queued; 0 if that is not known. */
static __always_inline __u64 queued_since(struct sk_buff *skb, __u64 now)
{
	__u64 hash = hash_of(address_of(skb), skb), word, since;
	__u64 *place = place_of(hash), *began;
	__u32 zero = 0;

	if (!place)
		return 0;
	word = *place;
	if (!word || (word ^ hash) & ~TIME_MASK)
		return 0;
	*place = 0;
	since = now - ((now - word) & TIME_MASK);
	began = bpf_map_lookup_elem(&window_began, &zero);
	return began && since > *began ? since : 0;
}

static __always_inline enum protocol protocol_of(__u32 number)
{
	if (number == IPPROTO_TCP)
		return PROTOCOL_TCP;
	return number == IPPROTO_UDP ? PROTOCOL_UDP : PROTOCOL_OTHER;
}

struct wait {
	__u64 cgroup;
	__u64 queue; /* ns in the queueing discipline */
	__u64 stack; /* ns from TCP to there; 0 if it is not TCP's */
	__u32 netns;
};

static __always_inline void report(struct Qdisc *qdisc, struct sk_buff *skb,
				   const struct socket_owner *owner, const struct wait *found,
				   int packets, __u64 now)
{
	__u64 bucket = bucket_of(found->cgroup, found->netns);
	struct late_transmission *record;
	struct packet_ends ends;

	if (!is_wanted_packet(skb))
		return;
	record = event_reserve(&late_transmissions, sizeof(*record), bucket, now);
	if (!record)
		return;
	__builtin_memset(record, 0, sizeof(*record));
	read_ends(skb, &ends);
	record->time = now;
	record->cgroup = found->cgroup;
	record->queue = found->queue;
	record->stack = found->stack;
	record->length = skb->len;
	__builtin_memcpy(record->local_address, ends.source, 16);
	__builtin_memcpy(record->remote_address, ends.destination, 16);
	record->local_port = ends.source_port;
	record->remote_port = ends.destination_port;
	record->protocol = protocol_of(ends.protocol);
	record->netns = found->netns;
	if (device_netns(skb) == found->netns)
		record->ifindex = skb->dev->ifindex;
	record->packets = packets;
	record->waiting = BPF_CORE_READ(qdisc, q.qlen);
	FILL_OWNER(record, owner);
	BPF_CORE_READ_STR_INTO(&record->qdisc, qdisc, ops, id);
	ring_submit(&late_transmissions, record);
}

static __always_inline struct queue_row *find_row(__u64 cgroup, __u32 netns)
{
	struct queue_key key;

	__builtin_memset(&key, 0, sizeof(key));
	key.cgroup = cgroup;
	key.netns = cgroup ? 0 : netns;
	return counter_row(&queues, &key, &empty_row);
}

/* When TCP wanted it to leave; 0 if it is not TCP's. */
static __always_inline __u64 departure(struct sk_buff *skb, struct sock *sk)
{
	if (!sk || !is_full_socket(sk) || sk->sk_protocol != IPPROTO_TCP)
		return 0;
	return skb->tstamp;
}

/* Count a packet that leaves; false if it is not known since when it has been queued. */
static __always_inline bool dequeued(struct sk_buff *skb, const struct socket_owner *owner,
				     __u64 now, struct wait *found)
{
	__u64 since = queued_since(skb, now), sent;
	struct sock *sk = skb->sk;
	struct queue_row *row;

	if (!since)
		return false;
	sent = departure(skb, sk);
	found->stack = sent && sent < since ? since - sent : 0;
	found->queue = now - (sent > since && sent < now ? sent : since);
	found->cgroup = sk ? owned_cgroup(sk, owner) : 0;
	found->netns = packet_netns(skb, sk);
	row = find_row(found->cgroup, found->netns);
	if (row) {
		histogram_add_shared(&row->queue, found->queue);
		if (sent)
			histogram_add_shared(&row->stack, found->stack);
	}
	return true;
}

/* since v5.15 */
SEC("raw_tp/qdisc_enqueue")
int BPF_PROG(enqueue__queued, struct Qdisc *qdisc, const void *queue, struct sk_buff *skb)
{
	return enqueued(skb);
}

/* Of all packets that are given to a device, also those that pass by its queue. */
SEC("raw_tp/net_dev_queue")
int BPF_PROG(enqueue__given_to_device, struct sk_buff *skb)
{
	return enqueued(skb);
}

/*
 * Of packets that leave together the first has waited longest: it alone may be an event, and of it
 * alone the verifier lets us know the owner.
 */
SEC("tp_btf/qdisc_dequeue")
int BPF_PROG(qdisc_dequeue, struct Qdisc *qdisc, const void *queue, int packets,
	     struct sk_buff *skb)
{
	struct socket_owner *owner = NULL;
	struct wait first, other;
	struct sk_buff *next;
	struct sock *sk;
	__u64 now;

	if (!skb)
		return 0;
	now = bpf_ktime_get_ns();
	sk = skb->sk;
	if (sk && is_full_socket(sk))
		owner = socket_owner(sk);
	if (dequeued(skb, owner, now, &first) &&
	    (first.queue >= queue_threshold || first.stack >= stack_threshold))
		report(qdisc, skb, owner, &first, packets, now);
	next = skb->next;
	for (int i = 1; i < BULK && next; i++) {
		dequeued(next, NULL, now, &other);
		next = next->next;
	}
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
