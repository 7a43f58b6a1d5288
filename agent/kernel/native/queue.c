/*
 * NFQUEUE over raw nfnetlink: linux/netfilter/nfnetlink_queue.h, netlink(7).
 *
 * One socket a queue, watched by the event loop. Each wake-up reads what is there, up to packets_per_wake_max, calls
 * back once a packet, and sends the verdicts given meanwhile in as few messages as fit.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <linux/netlink.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "weir.h"

#define packets_per_wake_max 128
#define payload_bytes_max 65531 /* NFQNL_MAX_COPY_RANGE less its attribute's header */
#define overhead_bytes 2048	/* headers and attributes around the payload */
#define out_bytes_max 8192
#define ack_wait_ms 2000

struct queue {
	napi_env env;
	napi_ref self, callback;
	napi_async_context context;
	uv_poll_t *poll;
	int fd;
	uint16_t number;
	bool open, dispatching, polling, finalized;
	uint32_t sequence;
	size_t in_room, out_length;
	double received, accepted, dropped, overruns, verdict_errors;
	uint8_t *in;
	_Alignas(4) uint8_t out[out_bytes_max];
};

static const napi_type_tag tag = { 0x7765697271756575ULL, 0x652d6e66716e6c31ULL };

struct request {
	struct nlmsghdr header;
	struct nfgenmsg family;
	uint8_t attributes[64];
};

static void request_begin(struct request *to, const struct queue *queue, int type, int flags)
{
	memset(to, 0, sizeof(*to));
	to->header.nlmsg_len = NLMSG_LENGTH(sizeof(struct nfgenmsg));
	to->header.nlmsg_type = (uint16_t)(NFNL_SUBSYS_QUEUE << 8 | type);
	to->header.nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
	to->family.nfgen_family = AF_UNSPEC;
	to->family.version = NFNETLINK_V0;
	to->family.res_id = htons(queue->number);
}

static void request_add(struct request *to, uint16_t type, const void *data, uint16_t length)
{
	struct nlattr attribute = { .nla_len = (uint16_t)(NLA_HDRLEN + length), .nla_type = type };
	uint8_t *at = (uint8_t *)to + to->header.nlmsg_len;

	memcpy(at, &attribute, sizeof(attribute));
	memcpy(at + NLA_HDRLEN, data, length);
	to->header.nlmsg_len += (uint32_t)NLA_ALIGN(NLA_HDRLEN + length);
}

/* 0, or the errno of the kernel's answer. Only before packets come: what else arrives is not looked at. */
static int ask(struct queue *queue, struct request *message)
{
	struct timeval wait = { .tv_sec = ack_wait_ms / 1000 };
	_Alignas(4) uint8_t answer[1024];

	message->header.nlmsg_seq = ++queue->sequence;
	message->header.nlmsg_flags |= NLM_F_ACK;
	setsockopt(queue->fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
	if (send(queue->fd, message, message->header.nlmsg_len, 0) < 0)
		return errno;
	for (;;) {
		ssize_t got = recv(queue->fd, answer, sizeof(answer), 0);
		const struct nlmsghdr *header = (const struct nlmsghdr *)answer;

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return errno;
		if ((size_t)got < NLMSG_LENGTH(sizeof(struct nlmsgerr)) || header->nlmsg_type != NLMSG_ERROR)
			continue;
		return -((const struct nlmsgerr *)NLMSG_DATA(header))->error;
	}
}

static int configure(struct queue *queue, uint32_t copy_bytes, uint32_t length)
{
	struct nfqnl_msg_config_cmd command = { .command = NFQNL_CFG_CMD_BIND, .pf = htons(AF_UNSPEC) };
	struct nfqnl_msg_config_params params = { .copy_range = htonl(copy_bytes), .copy_mode = NFQNL_COPY_PACKET };
	/* Fail-open and GSO off, told and not only left: another's flags of the same number would stay otherwise. */
	uint32_t flags = htonl(NFQA_CFG_F_UID_GID);
	uint32_t mask = htonl(NFQA_CFG_F_UID_GID | NFQA_CFG_F_FAIL_OPEN | NFQA_CFG_F_GSO);
	struct request message;
	int failed;

	request_begin(&message, queue, NFQNL_MSG_CONFIG, 0);
	request_add(&message, NFQA_CFG_CMD, &command, sizeof(command));
	failed = ask(queue, &message);
	if (failed)
		return failed;
	length = htonl(length);
	request_begin(&message, queue, NFQNL_MSG_CONFIG, 0);
	request_add(&message, NFQA_CFG_QUEUE_MAXLEN, &length, sizeof(length));
	request_add(&message, NFQA_CFG_FLAGS, &flags, sizeof(flags));
	request_add(&message, NFQA_CFG_MASK, &mask, sizeof(mask));
	request_add(&message, NFQA_CFG_PARAMS, &params, sizeof(params));
	return ask(queue, &message);
}

static void flush(struct queue *queue)
{
	size_t length = queue->out_length;

	queue->out_length = 0;
	if (length && send(queue->fd, queue->out, length, MSG_DONTWAIT) < 0)
		queue->verdict_errors++;
}

static void throw_away(struct queue *queue)
{
	free(queue->in);
	free(queue->poll);
	free(queue);
}

static void closed(uv_handle_t *handle)
{
	struct queue *queue = uv_handle_get_data(handle);

	queue->polling = false;
	if (queue->finalized)
		throw_away(queue);
}

static void finalize(napi_env env, void *data, void *hint)
{
	struct queue *queue = data;

	(void)env, (void)hint;
	queue->finalized = true;
	if (!queue->polling)
		throw_away(queue);
}

/* Closing the socket unbinds the queue. */
static void shut(void *data)
{
	struct queue *queue = data;

	if (!queue->open)
		return;
	queue->open = false;
	flush(queue);
	uv_poll_stop(queue->poll);
	uv_close((uv_handle_t *)queue->poll, closed);
	close(queue->fd);
	queue->fd = -1;
}

static double be32_of(const struct nlattr *attribute)
{
	uint32_t value;

	memcpy(&value, (const uint8_t *)attribute + NLA_HDRLEN, sizeof(value));
	return ntohl(value);
}

static void call_back(struct queue *queue, const uint8_t *at, size_t left)
{
	const struct nlattr *found[NFQA_MAX + 1] = { 0 };
	const uint8_t *payload = NULL;
	size_t payload_length = 0;
	napi_handle_scope scope;
	napi_value self, callback, argv[8];
	struct nfqnl_msg_packet_hdr head;
	bool pending = false;

	while (left >= NLA_HDRLEN) {
		const struct nlattr *attribute = (const struct nlattr *)at;
		size_t step = NLA_ALIGN(attribute->nla_len);
		uint16_t type = attribute->nla_type & NLA_TYPE_MASK;

		if (attribute->nla_len < NLA_HDRLEN || attribute->nla_len > left)
			return;
		if (type == NFQA_PAYLOAD) {
			payload = at + NLA_HDRLEN;
			payload_length = attribute->nla_len - NLA_HDRLEN;
		} else if (type <= NFQA_MAX && attribute->nla_len >= NLA_HDRLEN + 4) {
			found[type] = attribute;
		}
		if (step >= left)
			break;
		at += step;
		left -= step;
	}
	if (!found[NFQA_PACKET_HDR] || found[NFQA_PACKET_HDR]->nla_len < NLA_HDRLEN + sizeof(head))
		return;
	memcpy(&head, (const uint8_t *)found[NFQA_PACKET_HDR] + NLA_HDRLEN, sizeof(head));
	queue->received++;
	if (napi_open_handle_scope(queue->env, &scope) != 0)
		return;
	argv[0] = number_of(queue->env, ntohl(head.packet_id));
	argv[2] = number_of(queue->env, found[NFQA_MARK] ? be32_of(found[NFQA_MARK]) : 0);
	argv[3] = number_of(queue->env, found[NFQA_UID] ? be32_of(found[NFQA_UID]) : -1);
	argv[4] = number_of(queue->env, found[NFQA_GID] ? be32_of(found[NFQA_GID]) : -1);
	argv[5] = number_of(queue->env, found[NFQA_IFINDEX_INDEV] ? be32_of(found[NFQA_IFINDEX_INDEV]) : 0);
	argv[6] = number_of(queue->env, found[NFQA_IFINDEX_OUTDEV] ? be32_of(found[NFQA_IFINDEX_OUTDEV]) : 0);
	argv[7] = number_of(queue->env, head.hook);
	if (napi_create_buffer_copy(queue->env, payload_length, payload ? payload : queue->in, NULL, &argv[1]) == 0 &&
	    napi_get_reference_value(queue->env, queue->self, &self) == 0 &&
	    napi_get_reference_value(queue->env, queue->callback, &callback) == 0)
		napi_make_callback(queue->env, queue->context, self, callback, 8, argv, NULL);
	if (napi_is_exception_pending(queue->env, &pending) == 0 && pending) {
		napi_value error;

		if (napi_get_and_clear_last_exception(queue->env, &error) == 0)
			napi_fatal_exception(queue->env, error);
	}
	napi_close_handle_scope(queue->env, scope);
}

static void readable(uv_poll_t *poll, int status, int events)
{
	struct queue *queue = uv_handle_get_data((uv_handle_t *)poll);

	(void)status, (void)events;
	queue->dispatching = true;
	for (int packets = 0; packets < packets_per_wake_max && queue->open;) {
		ssize_t got = recv(queue->fd, queue->in, queue->in_room, MSG_DONTWAIT);
		const struct nlmsghdr *header = (const struct nlmsghdr *)queue->in;
		size_t left;

		if (got < 0 && errno == ENOBUFS) {
			queue->overruns++;
			continue;
		}
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			break;
		for (left = (size_t)got; queue->open && left >= sizeof(*header) && header->nlmsg_len >= sizeof(*header) && header->nlmsg_len <= left;) {
			size_t step = NLMSG_ALIGN(header->nlmsg_len);

			if (header->nlmsg_type == NLMSG_ERROR)
				queue->verdict_errors++;
			else if (header->nlmsg_type == (NFNL_SUBSYS_QUEUE << 8 | NFQNL_MSG_PACKET) &&
				 header->nlmsg_len >= NLMSG_LENGTH(sizeof(struct nfgenmsg)))
				call_back(queue, (const uint8_t *)header + NLMSG_LENGTH(sizeof(struct nfgenmsg)),
					  header->nlmsg_len - NLMSG_LENGTH(sizeof(struct nfgenmsg)));
			packets++;
			if (step >= left)
				break;
			header = (const struct nlmsghdr *)((const uint8_t *)header + step);
			left -= step;
		}
	}
	queue->dispatching = false;
	if (queue->open)
		flush(queue);
}

static napi_value undo(napi_env env, struct queue *queue, int number, const char *what)
{
	if (queue->fd >= 0)
		close(queue->fd);
	throw_away(queue);
	return throw_errno(env, number, what, number == EBUSY || number == EPERM ? "the queue has another reader, or this is not root" : NULL);
}

static napi_value queue_open(napi_env env, napi_callback_info info)
{
	napi_value argv[5], object, name;
	int64_t number, copy, length, room;
	struct sockaddr_nl to = { .nl_family = AF_NETLINK };
	struct timeval never = { 0 };
	struct uv_loop_s *loop;
	struct queue *queue;
	int type, failed, bytes;

	if (!take_arguments(env, info, 5, argv) || !take_integer(env, argv[0], "queue", 0, 65535, &number) ||
	    !take_integer(env, argv[1], "copyBytesMax", 1, payload_bytes_max, &copy) ||
	    !take_integer(env, argv[2], "queueLengthMax", 1, 1 << 20, &length) ||
	    !take_integer(env, argv[3], "receiveBufferBytes", 4096, 1 << 28, &room))
		return NULL;
	if (napi_typeof(env, argv[4], &type) != 0 || type != NAPI_FUNCTION)
		return throw_type(env, "onPacket must be a function");
	queue = calloc(1, sizeof(*queue));
	if (!queue)
		return throw_errno(env, ENOMEM, "malloc", NULL);
	queue->env = env;
	queue->number = (uint16_t)number;
	queue->in_room = (size_t)copy + overhead_bytes;
	queue->in = malloc(queue->in_room);
	queue->poll = calloc(1, uv_handle_size(UV_POLL));
	queue->fd = -1;
	if (!queue->in || !queue->poll)
		return undo(env, queue, ENOMEM, "malloc");
	queue->fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
	if (queue->fd < 0 || connect(queue->fd, (struct sockaddr *)&to, sizeof(to)) < 0)
		return undo(env, queue, errno, "socket NETLINK_NETFILTER");
	bytes = (int)room;
	if (setsockopt(queue->fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)) < 0)
		setsockopt(queue->fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
	failed = configure(queue, (uint32_t)copy, (uint32_t)length);
	if (failed)
		return undo(env, queue, failed, "nfnetlink_queue bind");
	setsockopt(queue->fd, SOL_SOCKET, SO_RCVTIMEO, &never, sizeof(never));
	if (napi_create_object(env, &object) != 0 || napi_type_tag_object(env, object, &tag) != 0 ||
	    napi_create_reference(env, argv[4], 1, &queue->callback) != 0 ||
	    napi_create_string_utf8(env, "weir:queue", NAPI_AUTO_LENGTH, &name) != 0 ||
	    napi_async_init(env, object, name, &queue->context) != 0 || napi_get_uv_event_loop(env, &loop) != 0 ||
	    uv_poll_init(loop, queue->poll, queue->fd) != 0)
		return undo(env, queue, ENOMEM, "uv_poll_init");
	queue->open = queue->polling = true;
	uv_handle_set_data((uv_handle_t *)queue->poll, queue);
	uv_poll_start(queue->poll, UV_READABLE, readable);
	/* While open the object is held, so that losing the handle in JavaScript does not close the queue. */
	napi_wrap(env, object, queue, finalize, NULL, NULL);
	napi_create_reference(env, object, 1, &queue->self);
	napi_add_env_cleanup_hook(env, shut, queue);
	return object;
}

static struct queue *take_queue(napi_env env, napi_value value)
{
	struct queue *queue = NULL;
	bool is = false;

	if (napi_check_object_type_tag(env, value, &tag, &is) == 0 && is && napi_unwrap(env, value, (void **)&queue) == 0)
		return queue;
	throw_type(env, "handle must be an open queue's");
	return NULL;
}

static napi_value queue_verdict(napi_env env, napi_callback_info info)
{
	napi_value argv[5];
	struct queue *queue;
	struct request message;
	int64_t id, mark;
	bool accept, up_to;

	if (!take_arguments(env, info, 5, argv))
		return NULL;
	queue = take_queue(env, argv[0]);
	if (!queue || !take_integer(env, argv[1], "id", 0, UINT32_MAX, &id) || !take_bool(env, argv[2], "accept", &accept) ||
	    !take_integer(env, argv[3], "mark", -1, UINT32_MAX, &mark) || !take_bool(env, argv[4], "upTo", &up_to))
		return NULL;
	if (!queue->open)
		return undefined_of(env);
	struct nfqnl_msg_verdict_hdr verdict = { .verdict = htonl(accept ? NF_ACCEPT : NF_DROP), .id = htonl((uint32_t)id) };

	request_begin(&message, queue, up_to ? NFQNL_MSG_VERDICT_BATCH : NFQNL_MSG_VERDICT, 0);
	request_add(&message, NFQA_VERDICT_HDR, &verdict, sizeof(verdict));
	if (mark >= 0) {
		uint32_t value = htonl((uint32_t)mark);

		request_add(&message, NFQA_MARK, &value, sizeof(value));
	}
	if (queue->out_length + message.header.nlmsg_len > out_bytes_max)
		flush(queue);
	memcpy(queue->out + queue->out_length, &message, message.header.nlmsg_len);
	queue->out_length += message.header.nlmsg_len;
	if (accept)
		queue->accepted++;
	else
		queue->dropped++;
	if (!queue->dispatching)
		flush(queue);
	return undefined_of(env);
}

static napi_value queue_counters(napi_env env, napi_callback_info info)
{
	napi_value argv[1], out;
	struct queue *queue;

	if (!take_arguments(env, info, 1, argv))
		return NULL;
	queue = take_queue(env, argv[0]);
	if (!queue || napi_create_object(env, &out) != 0 || !set_number(env, out, "received", queue->received) ||
	    !set_number(env, out, "accepted", queue->accepted) || !set_number(env, out, "dropped", queue->dropped) ||
	    !set_number(env, out, "overruns", queue->overruns) || !set_number(env, out, "verdictErrors", queue->verdict_errors))
		return NULL;
	return out;
}

static napi_value queue_close(napi_env env, napi_callback_info info)
{
	napi_value argv[1];
	struct queue *queue;

	if (!take_arguments(env, info, 1, argv))
		return NULL;
	queue = take_queue(env, argv[0]);
	if (!queue)
		return NULL;
	if (queue->open) {
		shut(queue);
		napi_remove_env_cleanup_hook(env, shut, queue);
		napi_async_destroy(env, queue->context);
		napi_delete_reference(env, queue->callback);
		napi_delete_reference(env, queue->self);
	}
	return undefined_of(env);
}

const struct method queue_methods[] = {
	{ "queueOpen", queue_open },
	{ "queueVerdict", queue_verdict },
	{ "queueCounters", queue_counters },
	{ "queueClose", queue_close },
	{ NULL, NULL },
};
