/*
 * Socket options, marked sockets, raw packets, a listener in another network namespace, a datagram to the service manager,
 * the firewall's generation. See socket(7), ip(7), setns(2), unix(7), netlink(7).
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "weir.h"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif
#define SO_ORIGINAL_DST_ 80 /* SO_ORIGINAL_DST and IP6T_SO_ORIGINAL_DST of linux/netfilter* */
#define IPV6_HDRINCL_ 36    /* linux/in6.h, which libc's netinet/in.h does not have everywhere */
#define packet_bytes_max 65535
#define backlog 4096
/* As libuv keeps a connection alive: asked after this, then each second, given up when as many are not answered. */
#define keep_idle_seconds 60
#define keep_interval_seconds 1
#define keep_probes 10

static bool take_family(napi_env env, napi_value value, int *out)
{
	int64_t family;

	if (!take_integer(env, value, "family", 4, 6, &family))
		return false;
	if (family == 5) {
		throw_type(env, "family must be 4 or 6");
		return false;
	}
	*out = family == 4 ? AF_INET : AF_INET6;
	return true;
}

static bool take_mark(napi_env env, napi_value value, uint32_t *out)
{
	int64_t mark;

	if (!take_integer(env, value, "mark", 0, UINT32_MAX, &mark))
		return false;
	*out = (uint32_t)mark;
	return true;
}

/* Opened once per family and kept: a refusal must not cost three system calls. The mark is set when it changes. */
static struct {
	int fd;
	uint32_t mark;
} raw[2] = { { -1, 0 }, { -1, 0 } };

static napi_value send_raw(napi_env env, napi_callback_info info)
{
	napi_value argv[3];
	struct sockaddr_in6 to = { 0 };
	socklen_t to_length;
	struct bytes packet;
	uint32_t mark;
	int family, at, one = 1;

	if (!take_arguments(env, info, 3, argv) || !take_family(env, argv[0], &family) ||
	    !take_bytes(env, argv[1], "packet", 20, packet_bytes_max, &packet) || !take_mark(env, argv[2], &mark))
		return NULL;
	at = family == AF_INET6;
	if (packet.data[0] >> 4 != (at ? 6 : 4) || (at && packet.length < 40))
		return throw_type(env, "packet must begin with an IP header of the family");
	if (raw[at].fd < 0) {
		int fd = socket(family, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_RAW);

		if (fd < 0)
			return throw_errno(env, errno, "socket", "raw");
		if (at && setsockopt(fd, IPPROTO_IPV6, IPV6_HDRINCL_, &one, sizeof(one)) < 0) {
			int number = errno;

			close(fd);
			return throw_errno(env, number, "setsockopt IPV6_HDRINCL", NULL);
		}
		raw[at].fd = fd;
		raw[at].mark = 0;
	}
	if (raw[at].mark != mark) {
		if (setsockopt(raw[at].fd, SOL_SOCKET, SO_MARK, &mark, sizeof(mark)) < 0)
			return throw_errno(env, errno, "setsockopt SO_MARK", NULL);
		raw[at].mark = mark;
	}
	if (at) {
		to.sin6_family = AF_INET6;
		memcpy(&to.sin6_addr, packet.data + 24, 16);
		to_length = sizeof(to);
	} else {
		struct sockaddr_in *to4 = (struct sockaddr_in *)&to;

		to4->sin_family = AF_INET;
		memcpy(&to4->sin_addr, packet.data + 16, 4);
		to_length = sizeof(*to4);
	}
	if (sendto(raw[at].fd, packet.data, packet.length, 0, (struct sockaddr *)&to, to_length) < 0)
		return throw_errno(env, errno, "sendto", NULL);
	return undefined_of(env);
}

static napi_value socket_marked(napi_env env, napi_callback_info info)
{
	napi_value argv[2];
	uint32_t mark;
	int family, fd;

	if (!take_arguments(env, info, 2, argv) || !take_family(env, argv[0], &family) || !take_mark(env, argv[1], &mark))
		return NULL;
	fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return throw_errno(env, errno, "socket", NULL);
	if (setsockopt(fd, SOL_SOCKET, SO_MARK, &mark, sizeof(mark)) < 0) {
		int number = errno;

		close(fd);
		return throw_errno(env, number, "setsockopt SO_MARK", NULL);
	}
	return number_of(env, fd);
}

static bool set_number_option(int fd, int level, int option, int value)
{
	return setsockopt(fd, level, option, &value, sizeof(value)) == 0;
}

/* What is written leaves at once, and a peer that is gone is found out. */
static bool set_options(int fd)
{
	return set_number_option(fd, IPPROTO_TCP, TCP_NODELAY, 1) && set_number_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1) &&
	       set_number_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, keep_idle_seconds) &&
	       set_number_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, keep_interval_seconds) &&
	       set_number_option(fd, IPPROTO_TCP, TCP_KEEPCNT, keep_probes);
}

/* tcpOptions(fd): of a connection, or of a listener, whose connections have them from it. */
static napi_value tcp_options(napi_env env, napi_callback_info info)
{
	napi_value argv[1];
	int fd;

	if (!take_arguments(env, info, 1, argv) || !take_fd(env, argv[0], &fd))
		return NULL;
	return set_options(fd) ? undefined_of(env) : throw_errno(env, errno, "setsockopt", NULL);
}

/* connectMarked(family, address, port, mark): a socket that is connecting, or connected already. */
static napi_value connect_marked(napi_env env, napi_callback_info info)
{
	struct sockaddr_in6 at6 = { .sin6_family = AF_INET6 };
	struct sockaddr_in at4 = { .sin_family = AF_INET };
	char text[INET6_ADDRSTRLEN];
	napi_value argv[4];
	int64_t port;
	uint32_t mark;
	int family, fd, failed;

	if (!take_arguments(env, info, 4, argv) || !take_family(env, argv[0], &family) ||
	    !take_text(env, argv[1], "address", text, sizeof(text)) || !take_integer(env, argv[2], "port", 0, 65535, &port) ||
	    !take_mark(env, argv[3], &mark))
		return NULL;
	if (inet_pton(family, text, family == AF_INET ? (void *)&at4.sin_addr : (void *)&at6.sin6_addr) != 1)
		return throw_type(env, "address must be one of the family");
	at4.sin_port = at6.sin6_port = htons((uint16_t)port);
	fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return throw_errno(env, errno, "socket", NULL);
	failed = setsockopt(fd, SOL_SOCKET, SO_MARK, &mark, sizeof(mark)) < 0 || !set_options(fd);
	if (!failed && (family == AF_INET ? connect(fd, (struct sockaddr *)&at4, sizeof(at4)) :
					    connect(fd, (struct sockaddr *)&at6, sizeof(at6))) < 0)
		failed = errno != EINPROGRESS;
	if (failed) {
		int number = errno;

		close(fd);
		return throw_errno(env, number, "connect", text);
	}
	return number_of(env, fd);
}

static napi_value set_mark(napi_env env, napi_callback_info info)
{
	napi_value argv[2];
	uint32_t mark;
	int fd;

	if (!take_arguments(env, info, 2, argv) || !take_fd(env, argv[0], &fd) || !take_mark(env, argv[1], &mark))
		return NULL;
	if (setsockopt(fd, SOL_SOCKET, SO_MARK, &mark, sizeof(mark)) < 0)
		return throw_errno(env, errno, "setsockopt SO_MARK", NULL);
	return undefined_of(env);
}

static napi_value endpoint(napi_env env, const char *address, in_port_t port)
{
	napi_value out, text;

	if (napi_create_object(env, &out) != 0 || napi_create_string_utf8(env, address, NAPI_AUTO_LENGTH, &text) != 0 ||
	    napi_set_named_property(env, out, "address", text) != 0 || !set_number(env, out, "port", ntohs(port)))
		return NULL;
	return out;
}

static napi_value original_destination(napi_env env, napi_callback_info info)
{
	napi_value argv[1];
	struct sockaddr_in6 at6 = { 0 };
	struct sockaddr_in at4 = { 0 };
	socklen_t length = sizeof(at4);
	char text[INET6_ADDRSTRLEN];
	int fd;

	if (!take_arguments(env, info, 1, argv) || !take_fd(env, argv[0], &fd))
		return NULL;
	/* First IPv4: a listener on :: also accepts it, and only SOL_IP knows the mapped ones. */
	if (getsockopt(fd, SOL_IP, SO_ORIGINAL_DST_, &at4, &length) == 0 && at4.sin_family == AF_INET)
		return endpoint(env, inet_ntop(AF_INET, &at4.sin_addr, text, sizeof(text)), at4.sin_port);
	length = sizeof(at6);
	if (getsockopt(fd, SOL_IPV6, SO_ORIGINAL_DST_, &at6, &length) == 0)
		return endpoint(env, inet_ntop(AF_INET6, &at6.sin6_addr, text, sizeof(text)), at6.sin6_port);
	if (errno == EBADF || errno == ENOTSOCK)
		return throw_errno(env, errno, "getsockopt SO_ORIGINAL_DST", NULL);
	return null_of(env);
}

static napi_value peer_credentials(napi_env env, napi_callback_info info)
{
	napi_value argv[1], out;
	struct ucred who = { 0 };
	socklen_t length = sizeof(who);
	int fd;

	if (!take_arguments(env, info, 1, argv) || !take_fd(env, argv[0], &fd))
		return NULL;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &length) < 0)
		return throw_errno(env, errno, "getsockopt SO_PEERCRED", NULL);
	/* Not a Unix socket, or nobody at the other end: pid 0, uid -1. That must not read as root. */
	if (who.pid <= 0 || who.uid == (uid_t)-1)
		return throw_errno(env, ENOTCONN, "getsockopt SO_PEERCRED", "no process is known at the other end");
	if (napi_create_object(env, &out) != 0 || !set_number(env, out, "pid", who.pid) || !set_number(env, out, "uid", who.uid) ||
	    !set_number(env, out, "gid", who.gid))
		return NULL;
	return out;
}

static napi_value cookie(napi_env env, int fd, int option, const char *name)
{
	uint64_t value = 0;
	socklen_t length = sizeof(value);
	napi_value out = NULL;

	if (getsockopt(fd, SOL_SOCKET, option, &value, &length) < 0)
		return throw_errno(env, errno, name, NULL);
	napi_create_bigint_uint64(env, value, &out);
	return out;
}

static napi_value socket_cookie(napi_env env, napi_callback_info info)
{
	napi_value argv[1];
	int fd;

	if (!take_arguments(env, info, 1, argv) || !take_fd(env, argv[0], &fd))
		return NULL;
	return cookie(env, fd, SO_COOKIE, "getsockopt SO_COOKIE");
}

/* -1 asks for the process's own namespace. */
static napi_value netns_cookie(napi_env env, napi_callback_info info)
{
	napi_value argv[1], out;
	int64_t given;
	int fd;

	if (!take_arguments(env, info, 1, argv) || !take_integer(env, argv[0], "fd", -1, INT32_MAX, &given))
		return NULL;
	fd = given < 0 ? socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0) : (int)given;
	if (fd < 0)
		return throw_errno(env, errno, "socket", NULL);
	out = cookie(env, fd, SO_NETNS_COOKIE, "getsockopt SO_NETNS_COOKIE");
	if (given < 0)
		close(fd);
	return out;
}

static int listener(int family, const void *address, in_port_t port)
{
	struct sockaddr_in6 at6 = { .sin6_family = AF_INET6, .sin6_port = port };
	struct sockaddr_in at4 = { .sin_family = AF_INET, .sin_port = port };
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int one = 1, failed, number;

	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (family == AF_INET6) {
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
		memcpy(&at6.sin6_addr, address, 16);
		failed = bind(fd, (struct sockaddr *)&at6, sizeof(at6));
	} else {
		memcpy(&at4.sin_addr, address, 4);
		failed = bind(fd, (struct sockaddr *)&at4, sizeof(at4));
	}
	if (failed == 0 && listen(fd, backlog) == 0)
		return fd;
	number = errno;
	close(fd);
	errno = number;
	return -1;
}

/* setns(2) moves only the calling thread, and it comes back before JavaScript goes on. */
static napi_value listen_in_namespace(napi_env env, napi_callback_info info)
{
	napi_value argv[4];
	char path[256], text[INET6_ADDRSTRLEN];
	uint8_t address[16];
	int64_t port;
	int family, home, there, fd = -1, number = 0;

	if (!take_arguments(env, info, 4, argv) || !take_text(env, argv[0], "path", path, sizeof(path)) ||
	    !take_family(env, argv[1], &family) || !take_text(env, argv[2], "address", text, sizeof(text)) ||
	    !take_integer(env, argv[3], "port", 0, 65535, &port))
		return NULL;
	if (inet_pton(family, text, address) != 1)
		return throw_type(env, "address must be one of the family");
	home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	there = open(path, O_RDONLY | O_CLOEXEC);
	if (home < 0 || there < 0) {
		number = errno;
	} else if (setns(there, CLONE_NEWNET) < 0) {
		number = errno;
	} else {
		fd = listener(family, address, htons((uint16_t)port));
		number = errno;
		if (setns(home, CLONE_NEWNET) < 0) {
			/* Going on in the wrong namespace would open upstream connections from there. */
			static const char lost[] = "weir: cannot return to the own network namespace\n";

			if (write(2, lost, sizeof(lost) - 1) < 0)
				_exit(71);
			_exit(70);
		}
	}
	if (home >= 0)
		close(home);
	if (there >= 0)
		close(there);
	return fd < 0 ? throw_errno(env, number, "listenInNamespace", path) : number_of(env, fd);
}

/* One datagram to a Unix socket, `@` at the front for an abstract one (sd_notify(3)). */
static napi_value send_datagram(napi_env env, napi_callback_info info)
{
	napi_value argv[2];
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	char path[sizeof(to.sun_path)];
	struct bytes message;
	size_t length;
	int fd, number;

	if (!take_arguments(env, info, 2, argv) || !take_text(env, argv[0], "path", path, sizeof(path)) ||
	    !take_bytes(env, argv[1], "message", 1, 4096, &message))
		return NULL;
	length = strlen(path);
	memcpy(to.sun_path, path, length);
	if (path[0] == '@')
		to.sun_path[0] = 0;
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return throw_errno(env, errno, "socket", "unix");
	if (sendto(fd, message.data, message.length, MSG_NOSIGNAL | MSG_DONTWAIT, (struct sockaddr *)&to,
		   (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length + (path[0] != '@'))) < 0) {
		number = errno;
		close(fd);
		return throw_errno(env, number, "sendto", path);
	}
	close(fd);
	return undefined_of(env);
}

/*
 * The number of changes that nf_tables has seen in this network namespace (NFT_MSG_GETGEN); null where there is none, as
 * with the legacy iptables. It costs microseconds where listing the rules costs a process.
 */
static napi_value rules_generation(napi_env env, napi_callback_info info)
{
	static int fd = -1;
	static uint32_t sequence;
	struct {
		struct nlmsghdr head;
		struct nfgenmsg body;
	} ask = { .head = { .nlmsg_len = sizeof(ask),
			    .nlmsg_type = (NFNL_SUBSYS_NFTABLES << 8) | NFT_MSG_GETGEN,
			    .nlmsg_flags = NLM_F_REQUEST } };
	union {
		struct nlmsghdr head;
		char bytes[8192];
	} answer;
	struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
	struct timeval wait = { .tv_usec = 200000 };
	ssize_t got;

	(void)info;
	if (fd < 0) {
		fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
		if (fd < 0)
			return null_of(env);
		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
	}
	ask.head.nlmsg_seq = ++sequence;
	if (sendto(fd, &ask, sizeof(ask), 0, (struct sockaddr *)&kernel, sizeof(kernel)) < 0)
		return null_of(env);
	/* An answer to an earlier question that timed out is read past. */
	do {
		got = recv(fd, &answer, sizeof(answer), 0);
		if (got < (ssize_t)sizeof(struct nlmsghdr))
			return null_of(env);
	} while (answer.head.nlmsg_seq != sequence);
	if (answer.head.nlmsg_type != ((NFNL_SUBSYS_NFTABLES << 8) | NFT_MSG_NEWGEN))
		return null_of(env);
	for (size_t at = sizeof(ask); at + sizeof(struct nlattr) + 4 <= (size_t)got;) {
		const struct nlattr *one = (const void *)(answer.bytes + at);
		uint32_t value;

		if (one->nla_len < sizeof(*one))
			break;
		if ((one->nla_type & NLA_TYPE_MASK) == NFTA_GEN_ID) {
			memcpy(&value, one + 1, sizeof(value));
			return number_of(env, ntohl(value));
		}
		at += (one->nla_len + 3u) & ~3u;
	}
	return null_of(env);
}

static napi_value close_fd(napi_env env, napi_callback_info info)
{
	napi_value argv[1];
	int fd;

	if (!take_arguments(env, info, 1, argv) || !take_fd(env, argv[0], &fd))
		return NULL;
	if (close(fd) < 0)
		return throw_errno(env, errno, "close", NULL);
	return undefined_of(env);
}

const struct method socket_methods[] = {
	{ "sendRaw", send_raw },
	{ "socketMarked", socket_marked },
	{ "connectMarked", connect_marked },
	{ "tcpOptions", tcp_options },
	{ "setMark", set_mark },
	{ "originalDestination", original_destination },
	{ "peerCredentials", peer_credentials },
	{ "socketCookie", socket_cookie },
	{ "netnsCookie", netns_cookie },
	{ "listenInNamespace", listen_in_namespace },
	{ "sendDatagram", send_datagram },
	{ "rulesGeneration", rules_generation },
	{ "closeFd", close_fd },
	{ NULL, NULL },
};
