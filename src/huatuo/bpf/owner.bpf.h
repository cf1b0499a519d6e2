/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Who owns a TCP socket: the process that called connect() or listen(). It is kept with the socket
 * and inherited by accepted ones, so that what happens in a timer or a softirq has its process,
 * and on cgroup v1, where a socket has no cgroup of its own, its container.
 *
 * net.tcp writes, others may read. Kernels: since 5.11, commit 8e4597c627fb ("bpf: Allow using
 * bpf_sk_storage in FENTRY/FEXIT/RAW_TP"); before it nobody is known.
 */
#ifndef HUATUO_OWNER_H
#define HUATUO_OWNER_H

#include "socket.bpf.h"

#define KNOWS_OWNERS bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_sock_from_file)

struct socket_owner {
	cgroup_id_t cgroup;
	tgid_t tgid;
	comm_t comm;
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
	__type(key, int);
	__type(value, struct socket_owner);
} socket_owners SEC(".maps");

/* Only for a full socket, or NULL. */
static __always_inline struct socket_owner *socket_owner(struct sock *sk)
{
	return KNOWS_OWNERS ? bpf_sk_storage_get(&socket_owners, sk, NULL, 0) : NULL;
}

/* The current process is the owner from now on. */
static __always_inline void own_socket(struct sock *sk)
{
	struct socket_owner *owner;

	if (!KNOWS_OWNERS)
		return;
	owner = bpf_sk_storage_get(&socket_owners, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!owner)
		return;
	owner->cgroup = current_cgroup();
	owner->tgid = bpf_get_current_pid_tgid() >> 32;
	bpf_get_current_comm(owner->comm, sizeof(owner->comm));
}

static __always_inline bool is_full_socket(struct sock *sk)
{
	unsigned char state = sk->__sk_common.skc_state;

	return state != TCP_STATE_TIME_WAIT && state != TCP_STATE_NEW_SYN_RECV;
}

/* The container of a full socket: the kernel's word, and on v1 that of its owner. */
static __always_inline __u64 owned_cgroup(struct sock *sk, const struct socket_owner *owner)
{
	__u64 cgroup = socket_cgroup(sk);

	return !cgroup && owner ? owner->cgroup : cgroup;
}

#define FILL_OWNER(record, owner)                                                               \
	do {                                                                                    \
		if (owner) {                                                                    \
			(record)->tgid = (owner)->tgid;                                         \
			__builtin_memcpy((record)->comm, (owner)->comm, sizeof((owner)->comm)); \
		}                                                                               \
	} while (0)

#endif
