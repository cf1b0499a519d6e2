// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * TCP connections: how long they took to open, what became of those that did not open or broke,
 * resets in both directions, and what a socket says of itself when it ends. Tracepoints that are
 * hit per connection, never per packet: sock:inet_sock_set_state, tcp:tcp_send_reset and
 * tcp:tcp_receive_reset (net/ipv4/af_inet.c, tcp_ipv4.c, tcp_output.c, tcp_input.c).
 *
 * connect() and listen() run in the process that calls them, everything later in a timer or a
 * softirq: this is where sockets get their owners (bpf/owner.bpf.h).
 */
#include "event.bpf.h"
#include "histogram.bpf.h"
#include "packet_filter.bpf.h"
#include "tcp.bpf.h"

const volatile duration_ns_t
	slow_threshold DOC("connections that take this long to open are events") = 1000000000;

#define ENETUNREACH 101
#define ECONNRESET 104
#define ETIMEDOUT 110
#define ECONNREFUSED 111
#define EHOSTUNREACH 113
#define EPIPE 32

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct socket {
	struct sock *sk;
};

struct bpf_iter__task_file {
	__bpf_md_ptr(struct bpf_iter_meta *, meta);
	__bpf_md_ptr(struct task_struct *, task);
	__u32 fd;
	__bpf_md_ptr(struct file *, file);
};

#pragma clang attribute pop

enum outcome {
	OUTCOME_OPENED, /* but it took long */
	OUTCOME_REFUSED,
	OUTCOME_TIMED_OUT,
	OUTCOME_UNREACHABLE,
	OUTCOME_RESET,
	OUTCOME_ABANDONED, /* closed by the program that waited for it */
	OUTCOME_OTHER,
};

/* Names come from the running kernel. */
enum reset_reason {
	not_given, /* the kernel's form without reasons */
};
#define REASONS KERNEL_ENUM("sk_rst_reason")

/* Where no socket tells the container its network namespace stands in for it. */
struct connection_key {
	cgroup_id_t cgroup DOC("container of the socket");
	netns_t netns DOC("network namespace, if no socket tells the container");
} KEY;

struct connection_row {
	duration_histogram_t connect DOC("time that connections took to open");
	duration_histogram_t rtt DOC("smoothed round-trip time of connections, as they end");
	counter_t duplicate_segments DOC(
		"segments sent again that the peer already had (DSACK), added as connections end");
	counter_ns_t peer_limited DOC(
		"time that data waited because the peer's window was full, added as connections "
		"end");
	counter_ns_t buffer_limited DOC("time that the network could have taken more than the send "
					"buffer held, added as connections end");
	counter_t received_resets DOC("resets received");
};

struct failure_key {
	cgroup_id_t cgroup DOC("container of the socket");
	netns_t netns DOC("network namespace, if no socket tells the container");
	enum phase phase DOC("connect: it did not open; data, close: it broke");
	enum outcome outcome DOC("what the program is told");
} KEY;

struct failure_row {
	counter_t failures DOC("connections that did not open, or broke");
};

struct reset_key {
	cgroup_id_t cgroup DOC("container of the socket");
	netns_t netns DOC("network namespace, if no socket tells the container");
	enum reset_reason reason REASONS DOC("why, as the running kernel names it");
};

struct reset_row {
	counter_t sent_resets DOC("resets sent");
};

COUNTERS(connections, struct connection_key, struct connection_row);
COUNTERS(failures, struct failure_key, struct failure_row);
COUNTERS(resets, struct reset_key, struct reset_row);

struct { /* when connect() began */
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, __u64); /* the socket's address */
	__type(value, __u64);
} connecting SEC(".maps");

struct connection_failure {
	ktime_ns_t time DOC("when it was over");
	cgroup_id_t cgroup DOC("container of the socket");
	duration_ns_t duration DOC("since connect() began; 0 if it broke later");
	ip_address_t local_address DOC("this end");
	ip_address_t remote_address DOC("the other end");
	enum outcome outcome DOC("what the program is told; opened: it took long");
	enum phase phase DOC("connect: it did not open; data, close: it broke");
	enum tcp_state state DOC("of the socket before");
	netns_t netns DOC("network namespace of the socket");
	tgid_t tgid DOC("process that connected or listened; 0 if unknown");
	comm_t comm DOC("name of that process");
	__u32 error DOC("error number that the program is told");
	__u32 retransmitted DOC("segments of this connection that were sent again");
	__u16 local_port DOC("this end");
	__u16 remote_port DOC("the other end");
};

struct sent_reset {
	ktime_ns_t time DOC("when it was sent");
	cgroup_id_t cgroup DOC("container of the socket");
	kstack_t stack DOC("how the kernel got there");
	ip_address_t local_address DOC("this end");
	ip_address_t remote_address DOC("the other end");
	enum reset_reason reason REASONS DOC("why, as the running kernel names it");
	enum tcp_state state DOC("of the socket; none if there is none");
	netns_t netns DOC("network namespace");
	tgid_t tgid DOC("process that connected or listened; 0 if unknown");
	comm_t comm DOC("name of that process");
	__u16 local_port DOC("this end");
	__u16 remote_port DOC("the other end");
};

struct received_reset {
	ktime_ns_t time DOC("when it was received");
	cgroup_id_t cgroup DOC("container of the socket");
	duration_ns_t rtt DOC("smoothed round-trip time");
	ip_address_t local_address DOC("this end");
	ip_address_t remote_address DOC("the other end");
	enum tcp_state state DOC("of the socket");
	netns_t netns DOC("network namespace of the socket");
	tgid_t tgid DOC("process that connected or listened; 0 if unknown");
	comm_t comm DOC("name of that process");
	__u32 in_flight DOC("segments sent and not acknowledged");
	__u16 local_port DOC("this end");
	__u16 remote_port DOC("the other end");
};

RING(connection_failures, struct connection_failure, 64 * 1024);
RING(sent_resets, struct sent_reset, 128 * 1024);
RING(received_resets, struct received_reset, 64 * 1024);

static const struct connection_row empty_connection;
static const struct failure_row empty_failure;
static const struct reset_row empty_reset;

static __always_inline struct connection_row *connection_row(__u64 cgroup, __u32 netns)
{
	struct connection_key key;

	__builtin_memset(&key, 0, sizeof(key));
	key.cgroup = cgroup;
	key.netns = cgroup ? 0 : netns;
	return counter_row(&connections, &key, &empty_connection);
}

static __always_inline enum outcome outcome_of(int error)
{
	switch (error) {
	case 0:
		return OUTCOME_ABANDONED;
	case ECONNREFUSED:
		return OUTCOME_REFUSED;
	case ETIMEDOUT:
		return OUTCOME_TIMED_OUT;
	case EHOSTUNREACH:
	case ENETUNREACH:
		return OUTCOME_UNREACHABLE;
	case ECONNRESET:
	case EPIPE:
		return OUTCOME_RESET;
	}
	return OUTCOME_OTHER;
}

static __always_inline void count_failure(__u64 cgroup, __u32 netns, enum phase phase,
					  enum outcome outcome)
{
	struct failure_key key;
	struct failure_row *row;

	__builtin_memset(&key, 0, sizeof(key));
	key.cgroup = cgroup;
	key.netns = cgroup ? 0 : netns;
	key.phase = phase;
	key.outcome = outcome;
	row = counter_row(&failures, &key, &empty_failure);
	if (row)
		COUNT_UP(row->failures, 1);
}

static __always_inline void report(struct sock *sk, const struct socket_owner *owner, __u64 cgroup,
				   enum outcome outcome, int before, __u64 began, __u64 now)
{
	struct segment_outline outline = {.flags =
						  before == TCP_STATE_SYN_SENT ? TCP_SYN : TCP_ACK};
	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);
	__u32 netns = socket_netns(sk);
	struct connection_failure *record;

	if (!is_wanted_sent(&sk->__sk_common, &outline))
		return;
	record =
		event_reserve(&connection_failures, sizeof(*record), bucket_of(cgroup, netns), now);
	if (!record)
		return;
	__builtin_memset(record, 0, sizeof(*record));
	record->time = now;
	record->cgroup = cgroup;
	record->duration = began ? now - began : 0;
	FILL_ENDS(record, &sk->__sk_common);
	record->outcome = outcome;
	record->phase = phase_of(before);
	record->state = (enum tcp_state)before;
	record->netns = netns;
	FILL_OWNER(record, owner);
	record->error = sk->sk_err;
	record->retransmitted = tcp ? tcp->total_retrans : 0;
	ring_submit(&connection_failures, record);
}

static __always_inline void begin_connect(struct sock *sk)
{
	__u64 key = (__u64)sk, now = bpf_ktime_get_ns();

	own_socket(sk);
	if (bpf_map_update_elem(&connecting, &key, &now, BPF_ANY))
		ACCOUNT(map_full);
}

/* It opened, or it did not; those that began before the probe did are not counted. */
static __always_inline void end_connect(struct sock *sk, bool opened)
{
	__u64 key = (__u64)sk, now, began;
	__u64 *found = bpf_map_lookup_elem(&connecting, &key);
	struct socket_owner *owner = socket_owner(sk);
	__u64 cgroup = owned_cgroup(sk, owner);
	enum outcome outcome = OUTCOME_OPENED;
	struct connection_row *row;

	if (!found)
		return;
	began = *found;
	bpf_map_delete_elem(&connecting, &key);
	now = bpf_ktime_get_ns();
	if (!opened) {
		outcome = outcome_of(sk->sk_err);
		count_failure(cgroup, socket_netns(sk), PHASE_CONNECT, outcome);
	} else {
		row = connection_row(cgroup, socket_netns(sk));
		if (row)
			histogram_add_shared(&row->connect, now - began);
	}
	if (!opened || now - began >= slow_threshold)
		report(sk, owner, cgroup, outcome, TCP_STATE_SYN_SENT, began, now);
}

/* What the socket says of its life; a reset that broke it is an event of its own. */
static __always_inline void end_connection(struct sock *sk, int before)
{
	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);
	struct socket_owner *owner = socket_owner(sk);
	__u64 cgroup = owned_cgroup(sk, owner);
	__u32 netns = socket_netns(sk);
	struct connection_row *row = connection_row(cgroup, netns);
	enum outcome outcome = outcome_of(sk->sk_err);

	if (!tcp || !row)
		return;
	if (tcp->srtt_us)
		histogram_add_shared(&row->rtt, rtt_ns(tcp));
	COUNT_UP(row->duplicate_segments, tcp->dsack_dups);
	COUNT_UP(row->peer_limited, tcp->chrono_stat[1] * jiffy_ns);
	COUNT_UP(row->buffer_limited, tcp->chrono_stat[2] * jiffy_ns);
	if (outcome == OUTCOME_ABANDONED)
		return;
	count_failure(cgroup, netns, phase_of(before), outcome);
	if (outcome != OUTCOME_RESET)
		report(sk, owner, cgroup, outcome, before, 0, bpf_ktime_get_ns());
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(inet_sock_set_state, struct sock *sk, int before, int after)
{
	if (sk->sk_protocol != IPPROTO_TCP)
		return 0;
	if (after == TCP_STATE_SYN_SENT)
		begin_connect(sk);
	else if (after == TCP_STATE_LISTEN)
		own_socket(sk);
	else if (before == TCP_STATE_SYN_SENT)
		end_connect(sk, after != TCP_STATE_CLOSE);
	else if (after == TCP_STATE_CLOSE && before != TCP_STATE_LISTEN &&
		 before != TCP_STATE_CLOSE && before != TCP_STATE_SYN_RECV)
		end_connection(sk, before);
	return 0;
}

static __always_inline void count_reset(__u64 cgroup, __u32 netns, __u32 reason)
{
	struct reset_key key;
	struct reset_row *row;

	__builtin_memset(&key, 0, sizeof(key));
	key.cgroup = cgroup;
	key.netns = cgroup ? 0 : netns;
	key.reason = (enum reset_reason)reason;
	row = counter_row(&resets, &key, &empty_reset);
	if (row)
		COUNT_UP(row->sent_resets, 1);
}

/* Whom a reset goes to: of the packet that it answers, where that says more than the socket. */
static __always_inline void reset_ends(struct packet_ends *ends, struct sock *sk,
				       struct sk_buff *skb, bool has_socket)
{
	struct packet_ends received;

	__builtin_memset(ends, 0, sizeof(*ends));
	if (skb && !(has_socket && sk->__sk_common.skc_state == TCP_STATE_ESTABLISHED)) {
		read_ends(skb, &received);
		__builtin_memcpy(ends->source, received.destination, 16);
		__builtin_memcpy(ends->destination, received.source, 16);
		ends->source_port = received.destination_port;
		ends->destination_port = received.source_port;
	} else if (has_socket) {
		fill_ends(&sk->__sk_common, ends->source, ends->destination, &ends->source_port,
			  &ends->destination_port);
	}
}

/*
 * `sk` may be null (nobody listens there) or a socket in part, `skb` is null for a reset that
 * answers nothing. Kernels differ in what the verifier believes of that, so a null socket is also
 * recognised by its family, which then reads as 0.
 */
static __always_inline int reset_sent(void *context, struct sock *sk, struct sk_buff *skb,
				      __u32 reason)
{
	bool has_socket = sk && sk->__sk_common.skc_family;
	bool full = has_socket && is_full_socket(sk);
	struct socket_owner *owner = full ? socket_owner(sk) : NULL;
	__u64 cgroup = has_socket ? owned_cgroup(sk, owner) : 0, now;
	__u32 netns = has_socket ? socket_netns(sk) : skb ? device_netns(skb) : 0;
	struct segment_outline outline = {.flags = TCP_RST};
	struct sent_reset *record;
	struct packet_ends ends;

	count_reset(cgroup, netns, reason);
	reset_ends(&ends, sk, skb, has_socket);
	if (!is_wanted_segment(&ends, &outline))
		return 0;
	now = bpf_ktime_get_ns();
	record = event_reserve(&sent_resets, sizeof(*record), bucket_of(cgroup, netns), now);
	if (!record)
		return 0;
	__builtin_memset(record, 0, sizeof(*record));
	record->time = now;
	record->cgroup = cgroup;
	record->netns = netns;
	record->reason = (enum reset_reason)reason;
	bpf_get_stack(context, record->stack, sizeof(record->stack), 0);
	if (has_socket)
		record->state = (enum tcp_state)sk->__sk_common.skc_state;
	__builtin_memcpy(record->local_address, ends.source, 16);
	__builtin_memcpy(record->remote_address, ends.destination, 16);
	record->local_port = ends.source_port;
	record->remote_port = ends.destination_port;
	FILL_OWNER(record, owner);
	ring_submit(&sent_resets, record);
	return 0;
}

/* With the reason since v6.10; before, and that only where there is a socket, without. */
SEC("tp_btf/tcp_send_reset")
int BPF_PROG(send_reset__reason, struct sock *sk, struct sk_buff *skb, unsigned int reason)
{
	return reset_sent(ctx, sk, skb, reason);
}

SEC("tp_btf/tcp_send_reset")
int BPF_PROG(send_reset__socket, struct sock *sk, struct sk_buff *skb)
{
	return reset_sent(ctx, sk, skb, 0);
}

SEC("tp_btf/tcp_receive_reset")
int BPF_PROG(receive_reset, struct sock *sk)
{
	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);
	struct socket_owner *owner = socket_owner(sk);
	__u64 cgroup = owned_cgroup(sk, owner), now;
	int state = sk->__sk_common.skc_state;
	__u32 netns = socket_netns(sk);
	struct connection_row *row = connection_row(cgroup, netns);
	struct segment_outline outline = {.flags = TCP_RST};
	struct received_reset *record;

	if (row)
		COUNT_UP(row->received_resets, 1);
	if (state == TCP_STATE_SYN_SENT || !tcp) /* a failure to connect is reported as such */
		return 0;
	if (!is_wanted_received(&sk->__sk_common, &outline))
		return 0;
	now = bpf_ktime_get_ns();
	record = event_reserve(&received_resets, sizeof(*record), bucket_of(cgroup, netns), now);
	if (!record)
		return 0;
	__builtin_memset(record, 0, sizeof(*record));
	record->time = now;
	record->cgroup = cgroup;
	record->rtt = rtt_ns(tcp);
	FILL_ENDS(record, &sk->__sk_common);
	record->state = (enum tcp_state)state;
	record->netns = netns;
	FILL_OWNER(record, owner);
	record->in_flight = tcp->packets_out;
	ring_submit(&received_resets, record);
	return 0;
}

/* Once at the start: sockets that are there already belong to a process that has them open. */
SEC("iter/task_file")
int once_per_file(struct bpf_iter__task_file *context)
{
	struct task_struct *task = context->task;
	struct file *file = context->file;
	struct socket_owner *owner;
	struct socket *socket;

	if (!KNOWS_OWNERS || !task || !file)
		return 0;
	socket = bpf_sock_from_file(file);
	if (!socket || !socket->sk || socket->sk->sk_protocol != IPPROTO_TCP)
		return 0;
	owner = bpf_sk_storage_get(&socket_owners, socket->sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!owner || owner->tgid)
		return 0;
	owner->cgroup = task_cgroup_read(task);
	owner->tgid = task->tgid;
	BPF_CORE_READ_STR_INTO(&owner->comm, task, comm);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
