// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * Redirection at connect(2): a connection to a target goes to the agent's listener, and what it was is written down.
 *
 *   connect4, connect6   destination in `targets`? record → `pending` by socket cookie, destination := the listener
 *   sockops              the SYN is about to leave and the source port is known: `pending` → `flows` by source
 *   the agent            at accept: looks up `flows` by the peer's address and port
 *
 * And a wall behind the firewall, at the last step before the device:
 *
 *   egress               what the firewall's rules have not seen, for somebody has taken them out, does not leave
 *
 * Only the UAPI of the context is used; the two fields of task_struct are read at offsets that the loader found in the
 * kernel's BTF. So the object needs no relocation but that of the maps, and the loader no libbpf.
 */
#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "weir-maps.h"

#define SOCK_STREAM 1
#define IPPROTO_TCP 6
#define socket_bytes 128 /* struct sock_common has 136 */
#define tcp_syn 0x02
#define tcp_rst 0x04
#define tcp_ack 0x10
#define allow 1
#define refuse 0 /* connect(2) fails with EPERM */

/* The loader makes the maps (bpf/maps.md) and puts their descriptors where these symbols are used. */
struct weir_map {
	int unused;
};
struct weir_map config SEC("maps");
struct weir_map targets4 SEC("maps");
struct weir_map targets6 SEC("maps");
struct weir_map pending SEC("maps");
struct weir_map flows SEC("maps");
struct weir_map counters SEC("maps");

#define count(field)                                                     \
	do {                                                             \
		__u32 zero_ = 0;                                         \
		struct weir_counters *all_ =                             \
			bpf_map_lookup_elem(&counters, &zero_);          \
		if (all_)                                                \
			__sync_fetch_and_add(&all_->field, 1);           \
	} while (0)

static __always_inline struct weir_config *configuration(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&config, &zero);
}

static __always_inline void describe_task(struct weir_flow *flow, const struct weir_config *conf)
{
	void *task, *other = 0;

	if (!conf->offsets_known)
		return;
	task = (void *)bpf_get_current_task();
	if (!bpf_probe_read_kernel(&other, sizeof(other), task + conf->offset_group_leader))
		bpf_probe_read_kernel(&flow->start_ns, sizeof(flow->start_ns), other + conf->offset_start);
	if (!bpf_probe_read_kernel(&other, sizeof(other), task + conf->offset_real_parent))
		bpf_probe_read_kernel(&flow->ppid, sizeof(flow->ppid), other + conf->offset_tgid);
	/* 64 bits in the kernel, of which the low half comes first. */
	if (conf->offset_exec_id)
		bpf_probe_read_kernel(&flow->exec_id, sizeof(flow->exec_id), task + conf->offset_exec_id);
}

/* True when the record is kept, so that the destination may be rewritten. Else the connection must not go on. */
static __always_inline int remember(struct bpf_sock_addr *ctx, struct weir_flow *flow, const struct weir_config *conf)
{
	__u64 ids = bpf_get_current_uid_gid();

	flow->netns_cookie = conf->netns_cookie;
	flow->socket_cookie = bpf_get_socket_cookie(ctx);
	flow->cgroup_id = bpf_get_current_cgroup_id();
	flow->pid = bpf_get_current_pid_tgid() >> 32;
	flow->uid = (__u32)ids;
	flow->gid = ids >> 32;
	flow->port = (__be16)ctx->user_port;
	bpf_get_current_comm(flow->comm, sizeof(flow->comm));
	describe_task(flow, conf);
	if (bpf_map_update_elem(&pending, &flow->socket_cookie, flow, BPF_ANY)) {
		count(record_failures);
		return 0;
	}
	count(redirected);
	return 1;
}

/* The agent's own upstream connections, and sockets that cannot reach the listener, are left as they are. */
static __always_inline int left_alone(struct bpf_sock_addr *ctx, const struct weir_config *conf)
{
	struct bpf_sock *sk = ctx->sk;

	if (conf->agent_mark && sk && sk->mark == conf->agent_mark) {
		count(own);
		return 1;
	}
	if (conf->agent_pid && bpf_get_current_pid_tgid() >> 32 == conf->agent_pid) {
		count(own);
		return 1;
	}
	if (bpf_get_netns_cookie(ctx) != conf->netns_cookie) {
		count(foreign_netns);
		return 1;
	}
	return 0;
}

/* connect(2) to 0.0.0.0 means loopback; so it must be judged as loopback. */
static __always_inline __be32 meant4(__be32 address)
{
	return address ? address : bpf_htonl(0x7f000001);
}

static __always_inline int wanted4(struct bpf_sock_addr *ctx, __be32 address, const struct weir_config *conf)
{
	struct weir_target4 key = { .prefixlen = 48 };
	__u16 port = (__u16)ctx->user_port;
	__u32 *take_loopback;
	int loopback = (bpf_ntohl(address) >> 24) == 127;

	if (!conf->port4 || (loopback && port == conf->port4))
		return 0;
	__builtin_memcpy(key.port, &port, 2);
	__builtin_memcpy(key.address, &address, 4);
	take_loopback = bpf_map_lookup_elem(&targets4, &key);
	return take_loopback && (!loopback || *take_loopback);
}

SEC("cgroup/connect4")
int weir_connect4(struct bpf_sock_addr *ctx)
{
	struct weir_config *conf = configuration();
	struct weir_flow flow = {};
	__be32 address;

	if (!conf || ctx->type != SOCK_STREAM || ctx->protocol != IPPROTO_TCP)
		return allow;
	address = meant4(ctx->user_ip4);
	if (!wanted4(ctx, address, conf) || left_alone(ctx, conf))
		return allow;
	flow.family = 4;
	flow.address[0] = address;
	if (!remember(ctx, &flow, conf))
		return refuse;
	ctx->user_ip4 = bpf_htonl(0x7f000001);
	ctx->user_port = conf->port4;
	return allow;
}

SEC("cgroup/connect6")
int weir_connect6(struct bpf_sock_addr *ctx)
{
	struct weir_config *conf = configuration();
	struct weir_target6 key = { .prefixlen = 144 };
	struct weir_flow flow = {};
	__u32 *take_loopback;
	__u16 port;
	int loopback;

	if (!conf || ctx->type != SOCK_STREAM || ctx->protocol != IPPROTO_TCP)
		return allow;
	flow.address[0] = ctx->user_ip6[0];
	flow.address[1] = ctx->user_ip6[1];
	flow.address[2] = ctx->user_ip6[2];
	flow.address[3] = ctx->user_ip6[3];

	/* ::ffff:a.b.c.d is IPv4 on the wire, and the IPv4 rule's business. */
	if (!flow.address[0] && !flow.address[1] && flow.address[2] == bpf_htonl(0xffff)) {
		__be32 address = meant4(flow.address[3]);

		if (!wanted4(ctx, address, conf) || left_alone(ctx, conf))
			return allow;
		flow.family = 4;
		flow.address[0] = address;
		flow.address[2] = 0;
		flow.address[3] = 0;
		if (!remember(ctx, &flow, conf))
			return refuse;
		ctx->user_ip6[3] = bpf_htonl(0x7f000001);
		ctx->user_port = conf->port4;
		return allow;
	}

	if (!conf->port6)
		return allow;
	if (!flow.address[0] && !flow.address[1] && !flow.address[2] && !flow.address[3])
		flow.address[3] = bpf_htonl(1);
	port = (__u16)ctx->user_port;
	loopback = !flow.address[0] && !flow.address[1] && !flow.address[2] && flow.address[3] == bpf_htonl(1);
	if (loopback && port == conf->port6)
		return allow;
	__builtin_memcpy(key.port, &port, 2);
	__builtin_memcpy(key.address, flow.address, 16);
	take_loopback = bpf_map_lookup_elem(&targets6, &key);
	if (!take_loopback || (loopback && !*take_loopback) || left_alone(ctx, conf))
		return allow;
	flow.family = 6;
	if (!remember(ctx, &flow, conf))
		return refuse;
	ctx->user_ip6[0] = 0;
	ctx->user_ip6[1] = 0;
	ctx->user_ip6[2] = 0;
	ctx->user_ip6[3] = bpf_htonl(1);
	ctx->user_port = conf->port6;
	return allow;
}

/*
 * TCP_CONNECT_CB comes before the SYN, so the record stands when the listener accepts, with TCP Fast Open too.
 * A connection to the listener that nobody rewrote must not find what an earlier user of its port left behind.
 */
SEC("sockops")
int weir_sockops(struct bpf_sock_ops *ctx)
{
	struct weir_config *conf;
	struct weir_flow_key key = {};
	struct weir_flow *flow;
	__u64 cookie;
	__u16 port;

	if (ctx->op != BPF_SOCK_OPS_TCP_CONNECT_CB)
		return 1;
	conf = configuration();
	if (!conf)
		return 1;
	port = (__u16)(bpf_ntohl(ctx->remote_port));
	port = bpf_htons(port);
	if (port != conf->port4 && port != conf->port6)
		return 1;
	cookie = bpf_get_socket_cookie(ctx);
	flow = bpf_map_lookup_elem(&pending, &cookie);
	key.netns_cookie = bpf_get_netns_cookie(ctx);
	key.port = (__u16)ctx->local_port;
	key.family = flow ? flow->family : ctx->family == 2 ? 4 : 6;
	if (key.family == 4) {
		key.address[0] = ctx->local_ip4;
	} else {
		key.address[0] = ctx->local_ip6[0];
		key.address[1] = ctx->local_ip6[1];
		key.address[2] = ctx->local_ip6[2];
		key.address[3] = ctx->local_ip6[3];
	}
	if (!flow) {
		bpf_map_delete_elem(&flows, &key);
		return 1;
	}
	if (bpf_map_update_elem(&flows, &key, flow, BPF_ANY))
		count(flow_failures);
	bpf_map_delete_elem(&pending, &cookie);
	return 1;
}

/* TCP that opens nothing answers somebody, and errors and neighbour discovery keep the network alive: as in the rules. */
static __always_inline int may_go_unseen(struct __sk_buff *skb)
{
	__u8 first, protocol, kind;
	__u32 transport;

	if (bpf_skb_load_bytes(skb, 0, &first, 1))
		return 0;
	if (first >> 4 == 4) {
		if (bpf_skb_load_bytes(skb, 9, &protocol, 1))
			return 0;
		transport = (first & 15) * 4;
	} else {
		if (bpf_skb_load_bytes(skb, 6, &protocol, 1))
			return 0;
		transport = 40;
	}
	if (protocol == IPPROTO_TCP) {
		if (bpf_skb_load_bytes(skb, transport + 13, &kind, 1))
			return 0;
		return (kind & (tcp_syn | tcp_ack | tcp_rst)) != tcp_syn;
	}
	if (bpf_skb_load_bytes(skb, transport, &kind, 1))
		return 0;
	if (protocol == 1)
		return kind == 3 || kind == 11 || kind == 12;
	if (protocol == 58)
		return (kind >= 1 && kind <= 4) || (kind >= 130 && kind <= 136) || kind == 143;
	return 0;
}

/*
 * The helper for the cookie is too new for packets; so it is read from the kernel. What cannot be read is held for the host's own.
 * A socket's common part has the namespace's address within its first bytes (UAPI gives no type, so no arithmetic on it).
 */
static __always_inline int is_foreign(struct __sk_buff *skb, const struct weir_config *conf)
{
	__u64 common[socket_bytes / 8] = {}, cookie = 0;
	void *net = 0, *sk = skb->sk;

	if (!sk || bpf_probe_read_kernel(common, sizeof(common), sk))
		return 0;
	if (bpf_probe_read_kernel(&net, sizeof(net), (void *)common + (conf->offset_socket_net & (socket_bytes - 8))))
		return 0;
	if (bpf_probe_read_kernel(&cookie, sizeof(cookie), net + conf->offset_net_cookie))
		return 0;
	return cookie != conf->netns_cookie;
}

/*
 * The last of the firewall's rules marks what it lets out. Without the mark the rules are not there: between a flush and the
 * agent that puts them back, or for as long as no agent runs. Sockets of other network namespaces have rules of their own
 * or none, and come through ours when they leave.
 */
SEC("cgroup_skb/egress")
int weir_wall(struct __sk_buff *skb)
{
	struct weir_config *conf = configuration();

	if (!conf || !conf->wall_mark || skb->mark & conf->wall_mark)
		return allow;
	if (is_foreign(skb, conf) || may_go_unseen(skb))
		return allow;
	count(walled);
	return refuse;
}

/* Helpers that read the kernel are for GPL-compatible programs only; the source may be had under either licence. */
char _license[] SEC("license") = "GPL";
