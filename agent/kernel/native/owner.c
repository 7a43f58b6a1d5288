/*
 * Whose a TCP socket is, asked by its exact four-tuple: NETLINK_SOCK_DIAG answers in microseconds where /proc/net/tcp has
 * to be written out whole. See sock_diag(7).
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "weir.h"

#define answer_bytes_max 1024
#define any_state UINT32_MAX
#define state_listen 10 /* TCP_LISTEN of net/tcp_states.h */

struct request {
	struct nlmsghdr head;
	struct inet_diag_req_v2 body;
};

/* 0 and the answer, or an errno. ENOENT: no such socket, or a kernel without tcp_diag. */
static int ask(const struct request *request, struct inet_diag_msg *out)
{
	union {
		struct nlmsghdr head;
		uint8_t bytes[answer_bytes_max];
	} answer;
	struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
	int number = EBADMSG;
	ssize_t got = -1;

	if (fd < 0)
		return errno;
	/* The kernel answers within the call, so the socket is readable at once: nothing waits here. */
	if (sendto(fd, request, sizeof(*request), 0, (struct sockaddr *)&kernel, sizeof(kernel)) == sizeof(*request))
		got = recv(fd, &answer, sizeof(answer), MSG_DONTWAIT);
	if (got < 0) {
		number = errno;
	} else if (NLMSG_OK(&answer.head, (size_t)got)) {
		const void *data = NLMSG_DATA(&answer.head);

		if (answer.head.nlmsg_type == NLMSG_ERROR && answer.head.nlmsg_len >= NLMSG_LENGTH(sizeof(struct nlmsgerr))) {
			number = -((const struct nlmsgerr *)data)->error;
		} else if (answer.head.nlmsg_type == SOCK_DIAG_BY_FAMILY && answer.head.nlmsg_len >= NLMSG_LENGTH(sizeof(*out))) {
			memcpy(out, data, sizeof(*out));
			number = 0;
		}
	}
	close(fd);
	return number;
}

static struct request request_of(int family)
{
	struct request request = {
		.head = { .nlmsg_len = sizeof(request), .nlmsg_type = SOCK_DIAG_BY_FAMILY, .nlmsg_flags = NLM_F_REQUEST },
		.body = { .sdiag_family = (uint8_t)family, .sdiag_protocol = IPPROTO_TCP, .idiag_states = any_state },
	};

	request.body.id.idiag_cookie[0] = request.body.id.idiag_cookie[1] = INET_DIAG_NOCOOKIE;
	return request;
}

/* Whether this kernel answers at all: a listener of our own must be found. Asked once. */
static bool answers(void)
{
	static int known = -1;
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	struct request request = request_of(AF_INET);
	socklen_t length = sizeof(at);
	struct inet_diag_msg found;
	int fd;

	if (known >= 0)
		return known;
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return false;
	if (bind(fd, (struct sockaddr *)&at, sizeof(at)) == 0 && listen(fd, 1) == 0 &&
	    getsockname(fd, (struct sockaddr *)&at, &length) == 0) {
		request.body.id.idiag_sport = at.sin_port;
		request.body.id.idiag_src[0] = at.sin_addr.s_addr;
		known = ask(&request, &found) == 0 && found.idiag_state == state_listen;
	}
	close(fd);
	return known > 0;
}

static bool same(const struct inet_diag_sockid *asked, const struct inet_diag_sockid *found)
{
	return asked->idiag_sport == found->idiag_sport && asked->idiag_dport == found->idiag_dport;
}

/* tcpOwner(family, address, port, remoteAddress, remotePort): { uid, inode }, or null where there is no such socket. */
static napi_value tcp_owner(napi_env env, napi_callback_info info)
{
	char from[INET6_ADDRSTRLEN], to[INET6_ADDRSTRLEN];
	int64_t family, from_port, to_port;
	struct inet_diag_msg found;
	struct request request;
	napi_value argv[5], out;
	int number;

	if (!take_arguments(env, info, 5, argv) || !take_integer(env, argv[0], "family", 4, 6, &family) ||
	    !take_text(env, argv[1], "address", from, sizeof(from)) || !take_integer(env, argv[2], "port", 1, 65535, &from_port) ||
	    !take_text(env, argv[3], "remoteAddress", to, sizeof(to)) || !take_integer(env, argv[4], "remotePort", 1, 65535, &to_port))
		return NULL;
	request = request_of(family == 4 ? AF_INET : AF_INET6);
	request.body.id.idiag_sport = htons((uint16_t)from_port);
	request.body.id.idiag_dport = htons((uint16_t)to_port);
	if (family == 5 || inet_pton(request.body.sdiag_family, from, request.body.id.idiag_src) != 1 ||
	    inet_pton(request.body.sdiag_family, to, request.body.id.idiag_dst) != 1)
		return throw_type(env, "address and remoteAddress must be of the family");
	number = ask(&request, &found);
	if (number == ENOENT && answers())
		return null_of(env);
	if (number)
		return throw_errno(env, number, "sock_diag", NULL);
	/* Where no connection has these ends the kernel answers with the listener on the port. A closed one has no inode. */
	if (!same(&request.body.id, &found.id) || !found.idiag_inode)
		return null_of(env);
	if (napi_create_object(env, &out) != 0 || !set_number(env, out, "uid", found.idiag_uid) ||
	    !set_number(env, out, "inode", found.idiag_inode))
		return NULL;
	return out;
}

const struct method owner_methods[] = {
	{ "tcpOwner", tcp_owner },
	{ NULL, NULL },
};
