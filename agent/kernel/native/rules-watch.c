/*
 * Tells when nf_tables has changed in this network namespace: every commit ends with a message to a multicast group
 * (NFNLGRP_NFTABLES, netlink(7)). What changed is not read; whoever is told asks for what stands now. One watch a process.
 */
#include <errno.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "weir.h"

#define messages_per_wake_max 1024

static struct {
	napi_env env;
	napi_ref callback, self;
	napi_async_context context;
	uv_poll_t *poll;
	int fd;
} watch = { .fd = -1 };

static void call_back(void)
{
	napi_handle_scope scope;
	napi_value self, callback, error;
	bool pending = false;

	if (napi_open_handle_scope(watch.env, &scope) != 0)
		return;
	if (napi_get_reference_value(watch.env, watch.self, &self) == 0 &&
	    napi_get_reference_value(watch.env, watch.callback, &callback) == 0)
		napi_make_callback(watch.env, watch.context, self, callback, 0, NULL, NULL);
	if (napi_is_exception_pending(watch.env, &pending) == 0 && pending &&
	    napi_get_and_clear_last_exception(watch.env, &error) == 0)
		napi_fatal_exception(watch.env, error);
	napi_close_handle_scope(watch.env, scope);
}

/* A full buffer (ENOBUFS) is a change, too. */
static void readable(uv_poll_t *poll, int status, int events)
{
	char bytes[256];

	(void)poll, (void)status, (void)events;
	for (int at = 0; at < messages_per_wake_max; at++)
		if (recv(watch.fd, bytes, sizeof(bytes), MSG_DONTWAIT | MSG_TRUNC) < 0 && errno != ENOBUFS && errno != EINTR)
			break;
	call_back();
}

static void freed(uv_handle_t *handle)
{
	free(handle);
}

static void shut(void *unused)
{
	(void)unused;
	if (watch.fd < 0)
		return;
	uv_poll_stop(watch.poll);
	uv_close((uv_handle_t *)watch.poll, freed);
	close(watch.fd);
	watch.fd = -1;
}

static napi_value undo(napi_env env, int fd, const char *what)
{
	int number = errno ? errno : ENOMEM;

	if (fd >= 0)
		close(fd);
	free(watch.poll);
	watch.poll = NULL;
	return throw_errno(env, number, what, NULL);
}

static napi_value rules_watch(napi_env env, napi_callback_info info)
{
	struct sockaddr_nl from = { .nl_family = AF_NETLINK, .nl_groups = 1u << (NFNLGRP_NFTABLES - 1) };
	napi_value argv[1], object, name;
	struct uv_loop_s *loop;
	int type, fd;

	if (!take_arguments(env, info, 1, argv))
		return NULL;
	if (napi_typeof(env, argv[0], &type) != 0 || type != NAPI_FUNCTION)
		return throw_type(env, "onChange must be a function");
	if (watch.fd >= 0)
		return throw_errno(env, EBUSY, "watchRules", NULL);
	watch.poll = calloc(1, uv_handle_size(UV_POLL));
	fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_NETFILTER);
	if (!watch.poll || fd < 0 || bind(fd, (struct sockaddr *)&from, sizeof(from)) < 0)
		return undo(env, fd, "socket NETLINK_NETFILTER");
	errno = 0;
	if (napi_create_object(env, &object) != 0 || napi_create_string_utf8(env, "weir:rules", NAPI_AUTO_LENGTH, &name) != 0 ||
	    napi_create_reference(env, argv[0], 1, &watch.callback) != 0 || napi_create_reference(env, object, 1, &watch.self) != 0 ||
	    napi_async_init(env, object, name, &watch.context) != 0 || napi_get_uv_event_loop(env, &loop) != 0 ||
	    uv_poll_init(loop, watch.poll, fd) != 0)
		return undo(env, fd, "uv_poll_init");
	watch.env = env;
	watch.fd = fd;
	uv_poll_start(watch.poll, UV_READABLE, readable);
	/* Watching alone keeps no process alive. */
	uv_unref((uv_handle_t *)watch.poll);
	napi_add_env_cleanup_hook(env, shut, NULL);
	return undefined_of(env);
}

static napi_value rules_unwatch(napi_env env, napi_callback_info info)
{
	(void)info;
	if (watch.fd >= 0) {
		shut(NULL);
		napi_remove_env_cleanup_hook(env, shut, NULL);
		napi_async_destroy(env, watch.context);
		napi_delete_reference(env, watch.callback);
		napi_delete_reference(env, watch.self);
	}
	return undefined_of(env);
}

const struct method watch_methods[] = {
	{ "watchRules", rules_watch },
	{ "unwatchRules", rules_unwatch },
	{ NULL, NULL },
};
