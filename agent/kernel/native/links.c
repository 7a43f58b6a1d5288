/*
 * The network links of the process's namespace, by RTM_GETLINK (rtnetlink(7)). /sys/class/net would show those of the
 * namespace in which it was mounted.
 */
#include <errno.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "weir.h"

#define answer_bytes_max (32 * 1024)
#define text_bytes_max (256 * 1024)
#define word_bytes_max 32

/* A name or kind; "-" where there is none. What is not text of that length is none. */
static void word_of(const struct rtattr *attribute, char out[word_bytes_max])
{
	size_t length = attribute ? strnlen(RTA_DATA(attribute), RTA_PAYLOAD(attribute)) : 0;

	if (length == 0 || length >= word_bytes_max)
		memcpy(out, "-", 2);
	else {
		memcpy(out, RTA_DATA(attribute), length);
		out[length] = 0;
	}
}

static const struct rtattr *find(const struct rtattr *at, int left, unsigned short type)
{
	for (; RTA_OK(at, left); at = RTA_NEXT(at, left))
		if ((at->rta_type & NLA_TYPE_MASK) == type)
			return at;
	return NULL;
}

/* One line a link: index, index of the bridge it is a port of or 0, name, kind. The length of the text, -1 when full. */
static int describe(const struct nlmsghdr *message, char *text, size_t room)
{
	const struct ifinfomsg *link = NLMSG_DATA(message);
	const struct rtattr *first = IFLA_RTA(link);
	int left = (int)IFLA_PAYLOAD(message), length;
	const struct rtattr *master = find(first, left, IFLA_MASTER), *info = find(first, left, IFLA_LINKINFO);
	char name[word_bytes_max], kind[word_bytes_max];
	uint32_t bridge = 0;

	word_of(find(first, left, IFLA_IFNAME), name);
	word_of(info ? find(RTA_DATA(info), (int)RTA_PAYLOAD(info), IFLA_INFO_KIND) : NULL, kind);
	if (master && RTA_PAYLOAD(master) >= sizeof(bridge))
		memcpy(&bridge, RTA_DATA(master), sizeof(bridge));
	length = snprintf(text, room, "%d %u %s %s\n", link->ifi_index, bridge, name, kind);
	return length < 0 || (size_t)length >= room ? -1 : length;
}

/* 0, or an errno. EOVERFLOW: there are more links than are looked at. */
static int list(int fd, char *text, size_t *length)
{
	struct {
		struct nlmsghdr head;
		struct ifinfomsg body;
	} ask = { .head = { .nlmsg_len = sizeof(ask),
			    .nlmsg_type = RTM_GETLINK,
			    .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP,
			    .nlmsg_seq = 1 } };
	struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
	static union {
		struct nlmsghdr head;
		char bytes[answer_bytes_max];
	} answer;

	if (sendto(fd, &ask, sizeof(ask), 0, (struct sockaddr *)&kernel, sizeof(kernel)) < 0)
		return errno;
	for (;;) {
		/* A dump goes on within each read: nothing waits here. */
		ssize_t got = recv(fd, &answer, sizeof(answer), MSG_DONTWAIT);
		const struct nlmsghdr *one = &answer.head;
		int left = (int)got;

		if (got < 0)
			return errno;
		for (; NLMSG_OK(one, (unsigned int)left); one = NLMSG_NEXT(one, left)) {
			int more;

			if (one->nlmsg_type == NLMSG_DONE)
				return 0;
			if (one->nlmsg_type != RTM_NEWLINK || one->nlmsg_len < NLMSG_LENGTH(sizeof(struct ifinfomsg)))
				return EBADMSG;
			more = describe(one, text + *length, text_bytes_max - *length);
			if (more < 0)
				return EOVERFLOW;
			*length += (size_t)more;
		}
	}
}

static napi_value links(napi_env env, napi_callback_info info)
{
	static char text[text_bytes_max];
	size_t length = 0;
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE), number;
	napi_value out;

	(void)info;
	if (fd < 0)
		return throw_errno(env, errno, "socket", "rtnetlink");
	number = list(fd, text, &length);
	close(fd);
	if (number != 0)
		return throw_errno(env, number, "RTM_GETLINK", NULL);
	return napi_create_string_utf8(env, text, length, &out) == 0 ? out : NULL;
}

const struct method link_methods[] = {
	{ "links", links },
	{ NULL, NULL },
};
