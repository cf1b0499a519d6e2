// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Every packet the kernel drops, from the one place where it says so: the tracepoint
 * skb:kfree_skb (net/core/skbuff.c). All are counted, by reason and container; a limited number
 * per second is recorded with location, stack and the packet's headers.
 *
 * Whose packet: the container of the receiving socket if the tracepoint gives it, otherwise that
 * of the socket the packet belongs to: the sender's until it is delivered, the receiver's
 * afterwards. The current task is no evidence, because receiving runs on whatever task is
 * interrupted. A packet without a socket, and on cgroup v1 a socket without a memory cgroup, has
 * its network namespace only.
 */
#include "event.bpf.h"
#include "packet_filter.bpf.h"

#define SLOTS 256 /* per CPU */
#define LONGEST_LINK_HEADER 64

enum skb_drop_reason { /* relocated, where the kernel has them */
		       SKB_NOT_DROPPED_YET,
		       SKB_CONSUMED,
		       SKB_DROP_REASON_OTHERHOST,
		       SKB_DROP_REASON_QUEUE_PURGE,
		       SKB_DROP_REASON_TCP_OFOMERGE,
		       SKB_DROP_REASON_UNIX_DISCONNECT,
};

/* Names come from the running kernel; queueing disciplines have their own on new kernels. */
enum reason {
	not_given, /* the kernel's form without reasons */
};
#define REASONS KERNEL_ENUM("skb_drop_reason,qdisc_drop_reason")

struct drop_key {
	cgroup_id_t cgroup DOC("container that owned the packet's socket");
	netns_t netns DOC("network namespace, if no socket tells the container");
	enum reason reason REASONS DOC("why, as the running kernel names it");
};

struct drop_count {
	counter_t packets DOC("packets the kernel dropped");
};

/*
 * Counting costs a hash look-up (about 65 ns) only for what is rare: each CPU has slots of its
 * own, found by a few bits of the key and taken by the first key that comes.
 */
struct drop_slot {
	struct drop_key key;
	__u64 packets;
	__u64 limited_until; /* jiffies: no record of this key is allowed before */
};

struct { /* SLOTS for each CPU: sized by user space */
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SLOTS);
	__type(key, __u32);
	__type(value, struct drop_slot);
} slots SEC(".maps");

struct { /* keys whose slot was taken */
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct drop_key);
	__type(value, struct drop_count);
} others SEC(".maps");

struct packet_drop {
	ktime_ns_t time DOC("when the kernel dropped it");
	cgroup_id_t cgroup DOC("container that owned the packet's socket");
	kaddr_t location DOC("where the kernel dropped it");
	bytes_t length DOC("of the packet, from the layer that dropped it upwards");
	kstack_t stack DOC("how the kernel got there");
	packet_t packet DOC("its first bytes; only the headers in them leave the probe");
	enum reason reason REASONS DOC("why, as the running kernel names it");
	netns_t netns DOC("network namespace of the socket, or of the device");
	ifindex_t ifindex DOC("device it was received on or sent through; 0 if unknown");
	__u16 protocol DOC("EtherType");
	__u16 captured DOC("bytes valid in packet");
	__u16 network_offset DOC("of the network header in packet");
	__u16 family DOC("address family of the socket; empty without one");
};

RING(drops, struct packet_drop, 256 * 1024);

static __always_inline void count_other(const struct drop_key *key)
{
	struct drop_count *found = bpf_map_lookup_elem(&others, key);
	struct drop_count first = {.packets = 1};

	if (found)
		__sync_fetch_and_add(&found->packets, 1);
	else if (bpf_map_update_elem(&others, key, &first, BPF_NOEXIST))
		ACCOUNT(map_full);
}

/* Atomic, because on kernels before 6.2 an interrupt may run this program within itself. */
static __always_inline struct drop_slot *count(const struct drop_key *key)
{
	__u32 hash = ((key->cgroup + key->netns) * 0x9e3779b97f4a7c15ULL >> 40) ^ key->reason;
	__u32 at = bpf_get_smp_processor_id() * SLOTS + hash % SLOTS;
	struct drop_slot *slot = bpf_map_lookup_elem(&slots, &at);

	if (slot && !slot->packets) {
		slot->key = *key;
		slot->limited_until = 0;
	}
	if (slot && slot->key.cgroup == key->cgroup && slot->key.netns == key->netns &&
	    slot->key.reason == key->reason) {
		__sync_fetch_and_add(&slot->packets, 1);
		return slot;
	}
	count_other(key);
	return NULL;
}

#define IS_REASON(reason, name)                                    \
	(bpf_core_enum_value_exists(enum skb_drop_reason, name) && \
	 (reason) == bpf_core_enum_value(enum skb_drop_reason, name))

/*
 * Nobody misses these: what a closing socket left unread, merged segments, frames for others seen
 * in promiscuous mode, and buffers without a byte in them, as of a connect() to a local socket
 * where nobody listens. They are counted, but make no record.
 */
static __always_inline bool is_ordinary(__u32 reason, struct sk_buff *skb)
{
	return IS_REASON(reason, SKB_DROP_REASON_QUEUE_PURGE) ||
	       IS_REASON(reason, SKB_DROP_REASON_UNIX_DISCONNECT) ||
	       IS_REASON(reason, SKB_DROP_REASON_TCP_OFOMERGE) ||
	       IS_REASON(reason, SKB_DROP_REASON_OTHERHOST) || !skb->len;
}

static __always_inline void copy_headers(struct packet_drop *drop, struct sk_buff *skb)
{
	__u64 head = (__u64)skb->head;
	__u32 network = skb->network_header, mac = skb->mac_header, end = skb->tail;
	__u32 start = network ? network : (__u64)skb->data - head, size;

	drop->network_offset = 0;
	if (network && mac < network && network - mac <= LONGEST_LINK_HEADER) {
		drop->network_offset = network - mac;
		start = mac;
	}
	if (start >= end || !drop->protocol)
		return;
	size = end - start;
	if (size > PACKET_BYTES)
		size = PACKET_BYTES;
	if (!bpf_probe_read_kernel(drop->packet, size, (void *)(head + start)))
		drop->captured = size;
}

/*
 * The device, if `dev` is one: a queue may have put something else in its place, and then there is
 * the number of the device that received. A number says something in its own namespace only: none
 * for a packet that has left its sender's, or whose namespace is not known.
 */
static __always_inline void fill_device(struct packet_drop *drop, struct sk_buff *skb,
					struct sock *sk)
{
	__u32 netns = device_netns(skb);

	drop->netns = packet_netns(skb, sk);
	if (netns && netns == drop->netns)
		drop->ifindex = skb->dev->ifindex;
	else if (!netns && drop->netns)
		drop->ifindex = skb->skb_iif;
}

static __always_inline void record_drop(void *context, struct sk_buff *skb, struct sock *sk,
					void *location, const struct drop_key *key, __u64 now)
{
	struct packet_drop *drop = bpf_ringbuf_reserve(&drops, sizeof(*drop), 0);

	if (!drop) {
		ACCOUNT(ring_full);
		return;
	}
	__builtin_memset(drop, 0, sizeof(*drop));
	drop->time = now;
	drop->cgroup = key->cgroup;
	drop->location = (__u64)location;
	drop->length = skb->len;
	drop->reason = key->reason;
	drop->protocol = bpf_ntohs(skb->protocol);
	drop->family = sk ? sk->__sk_common.skc_family : 0;
	bpf_get_stack(context, drop->stack, sizeof(drop->stack), 0);
	fill_device(drop, skb, sk);
	copy_headers(drop, skb);
	ring_submit(&drops, drop);
}

static __always_inline void account_limited(void)
{
	__u32 zero = 0;
	struct account *found = bpf_map_lookup_elem(&account, &zero);

	if (found) {
		found->produced++;
		found->rate_limited++;
	}
}

static __always_inline int dropped(void *context, struct sk_buff *skb, struct sock *sk,
				   void *location, __u32 reason)
{
	struct drop_key key = {.cgroup = sk ? socket_cgroup(sk) : 0, .reason = reason};
	struct drop_slot *slot;
	__u64 now, bucket;

	if (!key.cgroup)
		key.netns = packet_netns(skb, sk);
	slot = count(&key);
	bucket = bucket_of(key.cgroup, key.netns);
	if (is_ordinary(reason, skb) || !is_wanted_packet(skb))
		return 0;
	if (slot && slot->limited_until > bpf_jiffies64()) {
		account_limited();
		return 0;
	}
	now = bpf_ktime_get_ns();
	remember_drop(skb, location, reason, now);
	if (event_allowed(bucket, now))
		record_drop(context, skb, sk, location, &key, now);
	else if (slot)
		slot->limited_until = bpf_jiffies64() + 1;
	return 0;
}

/* commit c53795d48ee8 ("net: add rx_sk to trace_kfree_skb"), v6.11 */
SEC("tp_btf/kfree_skb")
int BPF_PROG(drop__receiver, struct sk_buff *skb, void *location, unsigned int reason,
	     struct sock *receiver)
{
	if (receiver)
		return dropped(ctx, skb, receiver, location, reason);
	return dropped(ctx, skb, skb->sk, location, reason);
}

/* commit c504e5c2f964 ("net: skb: introduce kfree_skb_reason()"), v5.17 */
SEC("tp_btf/kfree_skb")
int BPF_PROG(drop__reason, struct sk_buff *skb, void *location, unsigned int reason)
{
	return dropped(ctx, skb, skb->sk, location, reason);
}

SEC("tp_btf/kfree_skb")
int BPF_PROG(drop__location, struct sk_buff *skb, void *location)
{
	return dropped(ctx, skb, skb->sk, location, 0);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
