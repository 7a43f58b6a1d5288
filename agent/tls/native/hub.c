/* The hub: what one environment's connections share, and its beginning and end. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine.h"

static const napi_type_tag tag = { 0x77656972746c7368, 0x7562000000000001 };

struct hub *take_hub(napi_env env, napi_value value)
{
	struct hub *hub = NULL;
	bool is = false;

	if (napi_check_object_type_tag(env, value, &tag, &is) == 0 && is && napi_unwrap(env, value, (void **)&hub) == 0 && hub->open)
		return hub;
	throw_type(env, "hub must be an open one of tlsHub");
	return NULL;
}

static void throw_away(struct hub *hub)
{
	BIO_meth_free(hub->bio);
	free(hub->check);
	free(hub->idle);
	free(hub->prepare);
	free(hub->connections);
	free(hub->free_slots);
	free(hub->cipher_out);
	free(hub);
}

void hub_handle_closed(struct hub *hub)
{
	if (--hub->handles == 0 && hub->finalized)
		throw_away(hub);
}

static void on_closed(uv_handle_t *handle)
{
	hub_handle_closed(uv_handle_get_data(handle));
}

static void on_check(uv_check_t *check)
{
	dispatch(uv_handle_get_data((uv_handle_t *)check), true);
}

static void shut(void *data)
{
	struct hub *hub = data;

	if (!hub->open)
		return;
	hub->open = false;
	for (size_t slot = 0; slot < hub->slots; slot++)
		if (hub->connections[slot])
			close_connection(hub->connections[slot]);
	uv_close((uv_handle_t *)hub->check, on_closed);
	uv_close((uv_handle_t *)hub->idle, on_closed);
	uv_close((uv_handle_t *)hub->prepare, on_closed);
}

static void finalize(napi_env env, void *data, void *hint)
{
	struct hub *hub = data;

	(void)env, (void)hint;
	hub->finalized = true;
	if (!hub->handles)
		throw_away(hub);
}

static bool take_words(napi_env env, napi_value value, const char *name, size_t least, int32_t **out, size_t *count)
{
	char message[96];
	bool is = false;
	void *data = NULL;
	int type;

	if (napi_is_typedarray(env, value, &is) == 0 && is && napi_get_typedarray_info(env, value, &type, count, &data, NULL, NULL) == 0 &&
	    type == NAPI_INT32_ARRAY && *count >= least) {
		*out = data;
		return true;
	}
	snprintf(message, sizeof(message), "%s must be an Int32Array of %zu words or more", name, least);
	throw_type(env, message);
	return false;
}

static bool allocate(struct hub *hub)
{
	hub->connections = calloc(hub->slots, sizeof(*hub->connections));
	hub->free_slots = calloc(hub->slots, sizeof(*hub->free_slots));
	hub->check = calloc(1, uv_handle_size(UV_CHECK));
	hub->idle = calloc(1, uv_handle_size(UV_IDLE));
	hub->prepare = calloc(1, uv_handle_size(UV_PREPARE));
	hub->bio = cipher_method();
	return hub->connections && hub->free_slots && hub->check && hub->idle && hub->prepare && hub->bio;
}

/* tlsHub(events, ops, state, out, onEvents): onEvents(from, to, last) is called with places in `events`. */
static napi_value tls_hub(napi_env env, napi_callback_info info)
{
	size_t event_count, op_count, state_count;
	int32_t *events, *ops, *state;
	napi_value argv[5], object, name;
	struct bytes out;
	struct hub *hub;
	int type;

	if (!take_arguments(env, info, 5, argv) || !take_words(env, argv[0], "events", 64 * event_words, &events, &event_count) ||
	    !take_words(env, argv[1], "ops", 64 * op_words, &ops, &op_count) ||
	    !take_words(env, argv[2], "state", state_words, &state, &state_count) || !take_bytes(env, argv[3], "out", 1, INT32_MAX, &out))
		return NULL;
	if (napi_typeof(env, argv[4], &type) != 0 || type != NAPI_FUNCTION || state_count / state_words > connections_most)
		return throw_type(env, "onEvents must be a function, and the state that of not too many");
	hub = calloc(1, sizeof(*hub));
	if (!hub)
		return throw_errno(env, ENOMEM, "malloc", NULL);
	hub->env = env;
	hub->events = events;
	hub->ops = ops;
	hub->state = state;
	hub->event_room = event_count / event_words;
	hub->op_room = op_count / op_words;
	hub->slots = state_count / state_words;
	hub->out = out.data;
	hub->out_length = out.length;
	if (!allocate(hub) || napi_create_object(env, &object) != 0 || napi_type_tag_object(env, object, &tag) != 0 ||
	    napi_create_reference(env, argv[4], 1, &hub->callback) != 0 ||
	    napi_create_string_utf8(env, "weir:tls", NAPI_AUTO_LENGTH, &name) != 0 ||
	    napi_async_init(env, object, name, &hub->context) != 0 || napi_get_uv_event_loop(env, &hub->loop) != 0) {
		throw_away(hub);
		return throw_errno(env, ENOMEM, "tlsHub", NULL);
	}
	for (size_t at = 0; at < hub->slots; at++)
		hub->free_slots[hub->free_count++] = (int)(hub->slots - 1 - at);
	/* What is shared stays as long as the process: the hub is never given back before its environment ends. */
	for (int at = 0; at < 4; at++)
		napi_create_reference(env, argv[at], 1, &hub->shared[at]);
	uv_check_init(hub->loop, hub->check);
	uv_idle_init(hub->loop, hub->idle);
	uv_handle_set_data((uv_handle_t *)hub->check, hub);
	uv_handle_set_data((uv_handle_t *)hub->idle, hub);
	uv_check_start(hub->check, on_check);
	/* Connections keep the process alive, the hub does not. */
	uv_unref((uv_handle_t *)hub->check);
	start_waiting(hub);
	hub->handles = 3;
	hub->open = true;
	napi_wrap(env, object, hub, finalize, NULL, NULL);
	napi_create_reference(env, object, 1, &hub->self);
	napi_add_env_cleanup_hook(env, shut, hub);
	return object;
}

/* tlsSlab(hub, buffer): where the next plain text goes. The one before belongs to JavaScript alone from now on. */
static napi_value tls_slab(napi_env env, napi_callback_info info)
{
	napi_ref reference = NULL;
	napi_value argv[2];
	struct bytes slab;
	struct hub *hub;

	if (!take_arguments(env, info, 2, argv))
		return NULL;
	hub = take_hub(env, argv[0]);
	if (!hub || !take_bytes(env, argv[1], "slab", read_room, INT32_MAX, &slab))
		return NULL;
	if (napi_create_reference(env, argv[1], 1, &reference) != 0)
		return throw_errno(env, ENOMEM, "tlsSlab", NULL);
	if (hub->slab_reference)
		napi_delete_reference(env, hub->slab_reference);
	hub->slab_reference = reference;
	hub->slab = slab.data;
	hub->slab_length = slab.length;
	hub->slab_used = 0;
	return undefined_of(env);
}

/* tlsFlush(hub): carries out the operations that were noted. */
static napi_value tls_flush(napi_env env, napi_callback_info info)
{
	napi_value argv[1];
	struct hub *hub;

	if (!take_arguments(env, info, 1, argv))
		return NULL;
	hub = take_hub(env, argv[0]);
	if (!hub)
		return NULL;
	flush_ops(hub);
	return undefined_of(env);
}

const struct method hub_methods[] = {
	{ "tlsHub", tls_hub },
	{ "tlsSlab", tls_slab },
	{ "tlsFlush", tls_flush },
	{ NULL, NULL },
};
