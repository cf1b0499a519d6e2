/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Sockets and packets: the fields that several probes read, whose they are and who talks to whom.
 * For arguments of tp_btf and fentry programs: direct loads, but where it says otherwise.
 */
#ifndef HUATUO_SOCKET_H
#define HUATUO_SOCKET_H

#include <bpf/bpf_endian.h>
#include "cgroup.bpf.h"

#define AF_INET 2
#define AF_INET6 10
#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86DD
#define IPPROTO_TCP 6
#define IPPROTO_UDP 17

#define NETNS_BUCKET (1ULL << 63) /* token buckets of namespaces */

/* include/net/tcp_states.h; of sockets in TIME_WAIT and NEW_SYN_RECV there is only the first part
 */
enum tcp_state {
	TCP_STATE_NONE,
	TCP_STATE_ESTABLISHED,
	TCP_STATE_SYN_SENT,
	TCP_STATE_SYN_RECV,
	TCP_STATE_FIN_WAIT1,
	TCP_STATE_FIN_WAIT2,
	TCP_STATE_TIME_WAIT,
	TCP_STATE_CLOSE,
	TCP_STATE_CLOSE_WAIT,
	TCP_STATE_LAST_ACK,
	TCP_STATE_LISTEN,
	TCP_STATE_CLOSING,
	TCP_STATE_NEW_SYN_RECV,
};

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct net {
	struct ns_common ns;
};

typedef struct {
	struct net *net;
} possible_net_t;

struct net_device {
	char name[16];
	int ifindex;
	possible_net_t nd_net;
};

struct in6_addr {
	struct {
		__u8 u6_addr8[16];
	} in6_u;
};

struct sock_common {
	__be32 skc_daddr;
	__be32 skc_rcv_saddr;
	__be16 skc_dport;
	__u16 skc_num;
	unsigned short skc_family;
	volatile unsigned char skc_state;
	possible_net_t skc_net;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
	struct sock *skc_listener;
};

struct sock_cgroup_data {
	struct cgroup *cgroup;
};

struct mem_cgroup {
	struct cgroup_subsys_state css;
};

struct sock {
	struct sock_common __sk_common;
	__u16 sk_protocol;
	int sk_err;
	__u32 sk_ack_backlog;
	__u32 sk_max_ack_backlog;
	struct sock_cgroup_data sk_cgrp_data;
	struct mem_cgroup *sk_memcg;
};

struct inet_sock {
	__be16 inet_sport;
};

struct sk_buff {
	struct net_device *dev;
	struct sk_buff *next;
	struct sock *sk;
	__s64 tstamp;
	unsigned int len;
	int skb_iif;
	__be16 protocol;
	__u16 network_header;
	__u16 mac_header;
	__u32 tail;
	unsigned char *head;
	unsigned char *data;
	char cb[48];
};

#pragma clang attribute pop

/* A connection request has no owner yet but its listener; the field is in a union: probe reads. */
static __always_inline __u64 listener_cgroup(struct sock *request)
{
	unsigned short family = request->__sk_common.skc_family;
	struct sock *listener = BPF_CORE_READ(request, __sk_common.skc_listener);

	if (!listener || (family != AF_INET && family != AF_INET6))
		return 0;
	if (cgroup_v1)
		return BPF_CORE_READ(listener, sk_memcg, css.cgroup, kn, id);
	return BPF_CORE_READ(listener, sk_cgrp_data.cgroup, kn, id);
}

/* 0 if the kernel does not know: on cgroup v1 only sockets with a memory cgroup have one. */
static __always_inline __u64 socket_cgroup(struct sock *sk)
{
	unsigned char state = sk->__sk_common.skc_state;

	if (state == TCP_STATE_TIME_WAIT)
		return 0;
	if (state == TCP_STATE_NEW_SYN_RECV)
		return listener_cgroup(sk);
	if (cgroup_v1)
		return sk->sk_memcg ? sk->sk_memcg->css.cgroup->kn->id : 0;
	return sk->sk_cgrp_data.cgroup->kn->id;
}

static __always_inline __u32 socket_netns(struct sock *sk)
{
	return sk->__sk_common.skc_net.net->ns.inum;
}

/* 0 for a number that cannot be a namespace: `dev` shares its place with other things. */
static __always_inline __u32 valid_netns(__u32 inum)
{
	return inum >> 29 == 7 ? inum : 0;
}

static __always_inline __u32 device_netns(struct sk_buff *skb)
{
	struct net_device *dev = skb->dev;

	return dev ? valid_netns(dev->nd_net.net->ns.inum) : 0;
}

static __always_inline __u32 packet_netns(struct sk_buff *skb, struct sock *sk)
{
	return sk ? socket_netns(sk) : device_netns(skb);
}

/* Whose token bucket a record takes from. */
static __always_inline __u64 bucket_of(__u64 cgroup, __u32 netns)
{
	return cgroup ? cgroup : netns | NETNS_BUCKET;
}

static __always_inline void map_ipv4(__u8 *address, __be32 ipv4)
{
	*(__u64 *)address = 0;
	*(__u32 *)(address + 8) = bpf_htonl(0xffff);
	*(__be32 *)(address + 12) = ipv4;
}

/* A closed socket has given back its port, but still knows it. */
static __always_inline __u16 former_port(struct sock_common *common)
{
	return bpf_ntohs(BPF_CORE_READ((struct inet_sock *)common, inet_sport));
}

/* Local and remote end of a socket, also of one in part; ports in host order. */
static __always_inline void fill_ends(struct sock_common *common, __u8 *local, __u8 *remote,
				      __u16 *local_port, __u16 *remote_port)
{
	if (common->skc_family == AF_INET6) {
		bpf_probe_read_kernel(local, 16, &common->skc_v6_rcv_saddr);
		bpf_probe_read_kernel(remote, 16, &common->skc_v6_daddr);
	} else {
		map_ipv4(local, common->skc_rcv_saddr);
		map_ipv4(remote, common->skc_daddr);
	}
	*local_port = common->skc_num ? common->skc_num : former_port(common);
	*remote_port = bpf_ntohs(common->skc_dport);
}

#define FILL_ENDS(record, common)                                            \
	fill_ends(common, (record)->local_address, (record)->remote_address, \
		  &(record)->local_port, &(record)->remote_port)

#endif
