/* JavaScript's side: events to it, operations from it, both in memory that it shares with us. */
#include <stdlib.h>

#include "engine.h"

struct connection *connection_at(struct hub *hub, int64_t slot)
{
	return slot >= 0 && (uint64_t)slot < hub->slots ? hub->connections[slot] : NULL;
}

int32_t *state_of(struct connection *one)
{
	return one->hub->state + (size_t)one->slot * state_words;
}

/* For all that one poll may bring. */
bool has_room(struct hub *hub)
{
	return hub->event_room - hub->event_count >= events_per_poll && hub->slab_length - hub->slab_used >= read_room;
}

void add_event(struct connection *one, int kind, size_t offset, size_t length)
{
	struct hub *hub = one->hub;
	int32_t *event = hub->events + hub->event_count * event_words;

	if (hub->event_count >= hub->event_room)
		abort(); /* has_room was not asked */
	event[0] = one->slot;
	if (kind == event_data)
		heard(&hub->wait, one->slot);
	event[1] = kind;
	event[2] = (int32_t)offset;
	event[3] = (int32_t)length;
	hub->event_count++;
}

static void idle_nothing(uv_idle_t *idle)
{
	(void)idle;
}

/* While one is late the loop does not wait. */
void make_late(struct connection *one)
{
	struct hub *hub = one->hub;

	if (one->late || one->closed || !hub->open)
		return;
	if (!hub->idling)
		uv_idle_start(hub->idle, idle_nothing);
	hub->idling = one->late = true;
	one->next_late = hub->late;
	hub->late = one;
}

static void tell_late(struct hub *hub)
{
	while (hub->late && has_room(hub)) {
		struct connection *one = hub->late;

		hub->late = one->next_late;
		one->late = false;
		if (one->starting && !one->failed) {
			/* A client speaks first; a server may have read the beginning already. */
			one->starting = false;
			one->in = one->first;
			one->in_left = one->first_length;
			if (!one->server || one->in_left)
				decrypt(one);
			if (one->read_ended && !one->secured)
				fail(one, 0, "the peer closed the connection");
			free(one->first);
			one->first = NULL;
			set_interest(one);
		} else if (one->failed) {
			add_event(one, event_error, 0, 0);
		} else if (one->shut) {
			add_event(one, event_finished, 0, 0);
		}
	}
	if (!hub->late) {
		hub->idling = false;
		uv_idle_stop(hub->idle);
	}
}

/* Carries out what JavaScript noted; operations of one connection in a row are sent together. */
void flush_ops(struct hub *hub)
{
	struct connection *last = NULL;
	size_t count = hub->ops[0] > 0 ? (size_t)hub->ops[0] : 0;

	if (count >= hub->op_room)
		count = hub->op_room - 1;
	for (size_t at = 1; at <= count; at++) {
		const int32_t *op = hub->ops + at * op_words;
		struct connection *one = connection_at(hub, op[0]);

		if (last && last != one) {
			send_cipher(last);
			last = NULL;
		}
		if (!one || one->closed)
			continue;
		last = one;
		if (op[1] == op_write && op[2] >= 0 && op[3] >= 0 && (size_t)op[2] + (size_t)op[3] <= hub->out_length)
			write_plain(one, hub->out + op[2], (size_t)op[3]);
		else if (op[1] == op_end)
			end_plain(one);
		/* op_resume: send_cipher asks anew what is waited for. */
	}
	if (last)
		send_cipher(last);
	hub->ops[0] = hub->ops[1] = 0;
}

static void call(struct hub *hub, size_t from, size_t to, bool last)
{
	napi_value self, callback, error, argv[3];
	napi_handle_scope scope;
	bool pending = false;

	if (napi_open_handle_scope(hub->env, &scope) != 0)
		return;
	argv[0] = number_of(hub->env, (double)from);
	argv[1] = number_of(hub->env, (double)to);
	argv[2] = number_of(hub->env, last);
	if (napi_get_reference_value(hub->env, hub->self, &self) == 0 && napi_get_reference_value(hub->env, hub->callback, &callback) == 0)
		napi_make_callback(hub->env, hub->context, self, callback, 3, argv, NULL);
	if (napi_is_exception_pending(hub->env, &pending) == 0 && pending && napi_get_and_clear_last_exception(hub->env, &error) == 0)
		napi_fatal_exception(hub->env, error);
	napi_close_handle_scope(hub->env, scope);
}

/* Tells what came, then sends what JavaScript and its microtasks wrote because of it. `last`: the turn of the loop ends. */
void dispatch(struct hub *hub, bool last)
{
	if (!hub->open || hub->dispatching)
		return;
	hub->dispatching = true;
	if (hub->idling)
		tell_late(hub);
	if (hub->event_count || (last && hub->ops[2])) {
		call(hub, 0, hub->event_count, last);
		hub->event_count = 0;
		if (hub->open)
			flush_ops(hub);
	}
	hub->dispatching = false;
}
