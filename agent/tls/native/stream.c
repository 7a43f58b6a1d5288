/* The kernel's side: reading, sending, waiting for one or the other, closing. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine.h"

static void on_poll(uv_poll_t *poll, int status, int events);

/* Reading that JavaScript paused stops only when bytes come, so that a pause and a resume in a row cost nothing. */
void set_interest(struct connection *one)
{
	int32_t *state = state_of(one);
	int wanted = 0;

	if (one->closed)
		return;
	if (one->connecting && !one->failed) {
		wanted = UV_WRITABLE;
	} else if (!one->failed && !one->starting) {
		if (state[state_reading] && !one->read_ended)
			wanted |= UV_READABLE;
		if (one->pending_length)
			wanted |= UV_WRITABLE;
	}
	if (wanted != one->interest) {
		one->interest = wanted;
		if (wanted)
			uv_poll_start(one->poll, wanted, on_poll);
		else
			uv_poll_stop(one->poll);
	}
	state[state_armed] = (wanted & UV_READABLE) != 0;
}

void fail(struct connection *one, int number, const char *message)
{
	if (one->failed || one->closed)
		return;
	one->failed = true;
	one->error_number = number;
	snprintf(one->error, sizeof(one->error), "%s", message);
	make_late(one);
	set_interest(one);
}

static bool keep(struct connection *one, const uint8_t *from, size_t length)
{
	if (one->pending_length + length > pending_bytes_max) {
		fail(one, ENOBUFS, "more waits for the peer than pendingBytesMax");
		return false;
	}
	if (one->pending_start && one->pending_start + one->pending_length + length > one->pending_room) {
		memmove(one->pending, one->pending + one->pending_start, one->pending_length);
		one->pending_start = 0;
	}
	if (one->pending_start + one->pending_length + length > one->pending_room) {
		size_t room = (one->pending_length + length) * 2;
		uint8_t *more = realloc(one->pending, room);

		if (!more) {
			fail(one, ENOMEM, "write");
			return false;
		}
		one->pending = more;
		one->pending_room = room;
	}
	memcpy(one->pending + one->pending_start + one->pending_length, from, length);
	one->pending_length += length;
	return true;
}

/*
 * How much the kernel took; an error of the connection's has failed it. What is followed by the end leaves in one packet
 * with it: the kernel waits for finish() (MSG_MORE), which comes at once, or for what is still to be sent.
 */
static size_t push(struct connection *one, const uint8_t *from, size_t length)
{
	int flags = MSG_DONTWAIT | MSG_NOSIGNAL | (one->ending && !one->failed ? MSG_MORE : 0);
	size_t sent = 0;

	while (sent < length) {
		ssize_t took = send(one->fd, from + sent, length - sent, flags);

		if (took > 0) {
			sent += (size_t)took;
		} else if (took < 0 && errno == EINTR) {
			continue;
		} else {
			if (took < 0 && errno != EAGAIN && errno != EWOULDBLOCK)
				fail(one, errno, "write");
			break;
		}
	}
	return sent;
}

/* What was written is out: the peer is told that nothing more comes. */
static void finish(struct connection *one)
{
	if (!one->ending || one->shut || one->failed || one->closed || one->pending_length)
		return;
	one->shut = true;
	shutdown(one->fd, SHUT_WR);
	make_late(one);
}

/* Sends what OpenSSL has just written for this connection, or keeps it behind what waits already. */
void send_cipher(struct connection *one)
{
	struct hub *hub = one->hub;
	size_t length = hub->cipher_length, sent = 0;

	hub->cipher_length = 0;
	if (hub->cipher_failed) {
		hub->cipher_failed = false;
		fail(one, ENOMEM, "write");
	}
	if (one->closed)
		return;
	/* A failure of TLS leaves an alert to be sent, one of the connection's leaves nothing. */
	if (length && !(one->failed && one->error_number)) {
		if (!one->pending_length)
			sent = push(one, hub->cipher_out, length);
		if (sent < length && !one->failed && keep(one, hub->cipher_out + sent, length - sent))
			state_of(one)[state_pending] = (int32_t)one->pending_length;
	}
	finish(one);
	set_interest(one);
}

/*
 * A client's last message of the handshake asks for no answer, since no ticket is sent. Its first request then waits 40 ms
 * for our delayed acknowledgement where the client leaves Nagle's algorithm on; one that came along did not wait.
 */
void acknowledge(struct connection *one)
{
	int yes = 1;

	setsockopt(one->fd, IPPROTO_TCP, TCP_QUICKACK, &yes, sizeof(yes));
}

static void send_pending(struct connection *one)
{
	size_t sent = push(one, one->pending + one->pending_start, one->pending_length);

	one->pending_start += sent;
	one->pending_length -= sent;
	state_of(one)[state_pending] = (int32_t)one->pending_length;
	if (!one->pending_length) {
		one->pending_start = 0;
		if (one->pending_room > pending_keep_bytes) {
			free(one->pending);
			one->pending = NULL;
			one->pending_room = 0;
		}
		if (!one->failed)
			add_event(one, event_drain, 0, 0);
	}
	finish(one);
}

static void receive(struct connection *one)
{
	struct hub *hub = one->hub;
	uint8_t *to = one->raw ? hub->slab + hub->slab_used : hub->cipher_in;
	ssize_t got;

	do
		got = recv(one->fd, to, receive_bytes_max, MSG_DONTWAIT);
	while (got < 0 && errno == EINTR);
	if (got > 0 && one->raw) {
		add_event(one, event_data, hub->slab_used, (size_t)got);
		hub->slab_used += (size_t)got;
	} else if (got > 0) {
		one->in = hub->cipher_in;
		one->in_left = (size_t)got;
		decrypt(one);
	} else if (got == 0) {
		one->read_ended = true;
		if (one->secured || one->raw)
			add_event(one, event_end, 0, 0);
		else
			fail(one, 0, "the peer closed the connection");
	} else if (errno != EAGAIN && errno != EWOULDBLOCK) {
		fail(one, errno, "read");
	}
}

/* The kernel has connected, or says why not. A client speaks first. */
static void connected(struct connection *one, int status)
{
	int number = 0;
	socklen_t length = sizeof(number);

	if (getsockopt(one->fd, SOL_SOCKET, SO_ERROR, &number, &length) < 0 || (status < 0 && !number))
		number = ECONNRESET;
	if (number) {
		fail(one, number, "connect");
		return;
	}
	one->connecting = false;
	decrypt(one);
	set_interest(one);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
	struct connection *one = uv_handle_get_data((uv_handle_t *)poll);
	struct hub *hub = one->hub;

	if (one->closed || one->failed)
		return;
	if (!has_room(hub)) {
		dispatch(hub, false);
		/* It may be closed by now, though not freed. Without room it is read in the next turn. */
		if (one->closed || one->failed || !has_room(hub))
			return;
	}
	if (one->connecting) {
		if (status < 0)
			one->interest = 0;
		connected(one, status);
		return;
	}
	if (status < 0) {
		/* The kernel has an error for us and libuv stopped polling: what was received before is read first. */
		one->interest = 0;
		events = UV_READABLE | UV_WRITABLE;
	}
	if (events & UV_WRITABLE && one->pending_length)
		send_pending(one);
	if (events & UV_READABLE && state_of(one)[state_reading] && !one->read_ended && !one->failed)
		receive(one);
	set_interest(one);
	if (hub->event_count >= events_told_at_once)
		dispatch(hub, false);
}

static void on_closed(uv_handle_t *handle)
{
	struct connection *one = uv_handle_get_data(handle);
	struct hub *hub = one->hub;

	hub->connections[one->slot] = NULL;
	hub->free_slots[hub->free_count++] = one->slot;
	free(one->poll);
	free(one);
	hub_handle_closed(hub);
}

/* At once, without a word to the peer. */
void close_connection(struct connection *one)
{
	if (one->closed)
		return;
	one->closed = true;
	for (struct connection **link = &one->hub->late; one->late && *link; link = &(*link)->next_late)
		if (*link == one) {
			*link = one->next_late;
			one->late = false;
			break;
		}
	uv_close((uv_handle_t *)one->poll, on_closed);
	close(one->fd);
	/* OpenSSL would take back the session of a connection that ends without a word. What broke TLS has done so before. */
	if (one->ssl && one->ticket)
		SSL_set_shutdown(one->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
	SSL_free(one->ssl);
	drop_ticket(one->ticket);
	free(one->pending);
	free(one->first);
	one->ssl = NULL;
	one->ticket = NULL;
	one->first = one->pending = NULL;
	one->pending_length = 0;
}
