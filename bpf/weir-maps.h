/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Layouts of the maps. agent/kernel/native/bpf-maps.ts has the same, bpf/maps.md says what they mean. */
#ifndef WEIR_MAPS_H
#define WEIR_MAPS_H

#include <linux/types.h>

struct weir_config {
	__u64 netns_cookie;
	__u32 agent_pid;
	__u32 agent_mark;
	__be16 port4;
	__be16 port6;
	__u32 offsets_known;
	__u32 offset_real_parent;
	__u32 offset_tgid;
	__u32 offset_group_leader;
	__u32 offset_start;
	__u32 wall_mark;	/* 0 where the two offsets are not known */
	__u32 offset_socket_net;
	__u32 offset_net_cookie;
	__u32 offset_exec_id;	/* 0: not known */
};

/* Port and address are one bit string: the port always matches whole, so 0.0.0.0/0 on a port is prefixlen 16. */
struct weir_target4 {
	__u32 prefixlen;
	__u8 port[2];
	__u8 address[4];
	__u8 zero[2];
};

struct weir_target6 {
	__u32 prefixlen;
	__u8 port[2];
	__u8 address[16];
	__u8 zero[2];
};

struct weir_flow {
	__u64 netns_cookie;
	__u64 socket_cookie;
	__u64 cgroup_id;
	__u64 start_ns;
	__u32 pid;
	__u32 ppid;
	__u32 uid;
	__u32 gid;
	__u8 comm[16];
	__u32 address[4];	/* big-endian; IPv4 in the first word */
	__be16 port;
	__u8 family;		/* 4 or 6: of the destination and of the listener */
	__u8 zero;
	__u32 exec_id;		/* 0: not known */
};

struct weir_flow_key {
	__u64 netns_cookie;
	__u32 address[4];	/* the client's, as the listener sees it */
	__u16 port;		/* host order */
	__u8 family;
	__u8 zero[5];
};

struct weir_counters {
	__u64 redirected;
	__u64 foreign_netns;
	__u64 own;
	__u64 record_failures;
	__u64 flow_failures;
	__u64 walled;
};

#endif
