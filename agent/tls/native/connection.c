/* What JavaScript does with one connection: opens it on a descriptor, writes much, asks about it, closes it. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine.h"

static bool take_connection(napi_env env, napi_callback_info info, size_t count, napi_value *argv, struct hub **hub, struct connection **one)
{
	int64_t slot;

	if (!take_arguments(env, info, count, argv) || !(*hub = take_hub(env, argv[0])) ||
	    !take_integer(env, argv[1], "slot", 0, connections_most, &slot))
		return false;
	*one = connection_at(*hub, slot);
	if (*one && (*one)->closed)
		*one = NULL;
	return true;
}

/* A copy, as OpenSSL lets each be offered once. */
static bool offer_session(struct connection *one)
{
	SSL_SESSION *copy;
	bool offered;

	if (!one->ticket || !one->ticket->session)
		return true;
	copy = SSL_SESSION_dup(one->ticket->session);
	offered = copy && SSL_set_session(one->ssl, copy) == 1;
	SSL_SESSION_free(copy);
	return offered;
}

static bool secure(struct connection *one, const struct context *context, const char *server_name)
{
	BIO *bio;

	clear_tls_errors();
	one->ssl = SSL_new(context->ctx);
	bio = one->ssl ? BIO_new(one->hub->bio) : NULL;
	if (!bio)
		return false;
	BIO_set_data(bio, one);
	BIO_set_init(bio, 1);
	SSL_set_bio(one->ssl, bio, bio);
	if (one->server) {
		SSL_set_accept_state(one->ssl);
		return put_leaf(one->ssl, &context->leaf);
	}
	SSL_set_connect_state(one->ssl);
	if (!offer_session(one))
		return false;
	if (*server_name && SSL_ctrl(one->ssl, SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name, (void *)server_name) != 1)
		return false;
	/* Zero is success here. */
	return !one->alpn_length || SSL_set_alpn_protos(one->ssl, one->alpn, (unsigned int)one->alpn_length) == 0;
}

static napi_value undo(napi_env env, struct connection *one, int number, const char *detail)
{
	if (one) {
		SSL_free(one->ssl);
		drop_ticket(one->ticket);
		free(one->poll);
		free(one->first);
		free(one);
	}
	clear_tls_errors();
	return throw_errno(env, number, "tlsOpen", detail);
}

static bool take_alpn(napi_env env, napi_value value, struct bytes *alpn)
{
	if (!take_bytes(env, value, "alpn", 0, alpn_bytes_max, alpn))
		return false;
	for (size_t at = 0; at < alpn->length; at += 1u + alpn->data[at])
		if (!alpn->data[at] || at + alpn->data[at] >= alpn->length) {
			throw_type(env, "alpn must be names, each behind its length");
			return false;
		}
	return true;
}

/* What the handshake needs, but its memory for OpenSSL. */
static bool prepare(struct connection *one, const struct context *context, const struct bytes *alpn, const struct bytes *first)
{
	one->first = malloc(first->length + 1);
	if (!one->first)
		return false;
	if (first->length)
		memcpy(one->first, first->data, first->length);
	one->first_length = first->length;
	if (alpn->length)
		memcpy(one->alpn, alpn->data, alpn->length);
	one->alpn_length = alpn->length;
	one->server = context->server;
	one->ticket = hold_ticket(context->ticket);
	return true;
}

static struct connection *make_connection(struct hub *hub, int fd)
{
	struct connection *one = calloc(1, sizeof(*one));

	if (!one || !(one->poll = calloc(1, uv_handle_size(UV_POLL)))) {
		free(one);
		return NULL;
	}
	one->hub = hub;
	one->fd = fd;
	return one;
}

/* From here on it is closed, not freed. */
static bool give_slot(struct connection *one)
{
	struct hub *hub = one->hub;

	/* It also makes the descriptor one that does not block. */
	if (uv_poll_init(hub->loop, one->poll, one->fd) != 0)
		return false;
	uv_handle_set_data((uv_handle_t *)one->poll, one);
	one->slot = hub->free_slots[--hub->free_count];
	hub->connections[one->slot] = one;
	hub->handles++;
	memset(state_of(one), 0, state_words * sizeof(int32_t));
	state_of(one)[state_reading] = 1;
	return true;
}

static const char too_many[] = "connectionsMax is reached", no_poll[] = "the descriptor cannot be polled";

/* tlsOpen(hub, context, fd, serverName, alpn, first, connecting): the slot. The fd is taken over when it succeeds. */
static napi_value tls_open(napi_env env, napi_callback_info info)
{
	struct bytes alpn, first, name;
	char host[server_name_bytes_max + 1] = "";
	struct connection *one;
	napi_value argv[7];
	struct hub *hub;
	struct context *context;
	bool connecting;
	int fd;

	if (!take_arguments(env, info, 7, argv) || !(hub = take_hub(env, argv[0])) || !(context = take_context(env, argv[1])) ||
	    !take_fd(env, argv[2], &fd) || !take_bytes(env, argv[3], "serverName", 0, server_name_bytes_max, &name) ||
	    !take_alpn(env, argv[4], &alpn) || !take_bytes(env, argv[5], "first", 0, receive_bytes_max, &first) ||
	    !take_bool(env, argv[6], "connecting", &connecting))
		return NULL;
	if (name.length)
		memcpy(host, name.data, name.length);
	if (strlen(host) != name.length)
		return throw_type(env, "serverName must have no NUL");
	if (!hub->free_count)
		return undo(env, NULL, EMFILE, too_many);
	one = make_connection(hub, fd);
	if (!one || !prepare(one, context, &alpn, &first))
		return undo(env, one, ENOMEM, NULL);
	if (!secure(one, context, host))
		return undo(env, one, EINVAL, tls_reason());
	if (!give_slot(one))
		return undo(env, one, EBADF, no_poll);
	one->connecting = connecting;
	one->starting = !connecting;
	if (connecting)
		set_interest(one);
	else
		make_late(one);
	return number_of(env, one->slot);
}

/* tlsListen(hub, fd): the slot of a connection whose bytes are told as they come. The fd is taken over when it succeeds. */
static napi_value tls_listen(napi_env env, napi_callback_info info)
{
	struct connection *one;
	napi_value argv[2];
	struct hub *hub;
	int fd;

	if (!take_arguments(env, info, 2, argv) || !(hub = take_hub(env, argv[0])) || !take_fd(env, argv[1], &fd))
		return NULL;
	if (!hub->free_count)
		return undo(env, NULL, EMFILE, too_many);
	one = make_connection(hub, fd);
	if (!one)
		return undo(env, NULL, ENOMEM, NULL);
	if (!give_slot(one))
		return undo(env, one, EBADF, no_poll);
	one->raw = true;
	set_interest(one);
	return number_of(env, one->slot);
}

/* tlsSecure(hub, slot, context, alpn, first): what was listened to begins with `first`, and TLS with it. */
static napi_value tls_secure(napi_env env, napi_callback_info info)
{
	struct connection *one;
	struct bytes alpn, first;
	struct context *context;
	napi_value argv[5];
	struct hub *hub;

	if (!take_connection(env, info, 5, argv, &hub, &one) || !(context = take_context(env, argv[2])) || !take_alpn(env, argv[3], &alpn) ||
	    !take_bytes(env, argv[4], "first", 0, receive_bytes_max, &first))
		return NULL;
	if (!one || !one->raw || one->failed)
		return throw_errno(env, EPIPE, "tlsSecure", "the connection was closed");
	if (!prepare(one, context, &alpn, &first))
		return throw_errno(env, ENOMEM, "tlsSecure", NULL);
	if (!secure(one, context, "")) {
		fail(one, 0, tls_reason());
		return undefined_of(env);
	}
	one->raw = false;
	one->starting = true;
	state_of(one)[state_reading] = 1;
	set_interest(one);
	make_late(one);
	return undefined_of(env);
}

/* tlsWrite(hub, slot, buffer): without a copy. What was noted before has to be flushed first. */
static napi_value tls_write(napi_env env, napi_callback_info info)
{
	struct connection *one;
	napi_value argv[3];
	struct bytes bytes;
	struct hub *hub;

	if (!take_connection(env, info, 3, argv, &hub, &one) || !take_bytes(env, argv[2], "bytes", 0, INT32_MAX, &bytes))
		return NULL;
	for (size_t at = 0; one && !one->failed && at < bytes.length; at += encrypt_bytes_max) {
		size_t left = bytes.length - at;

		write_plain(one, bytes.data + at, left < encrypt_bytes_max ? left : encrypt_bytes_max);
		send_cipher(one);
	}
	return undefined_of(env);
}

static bool set_text(napi_env env, napi_value object, const char *name, const char *text, size_t length)
{
	napi_value value = null_of(env);

	return (!text || napi_create_string_utf8(env, text, length, &value) == 0) && napi_set_named_property(env, object, name, value) == 0;
}

static bool set_certificate(napi_env env, napi_value object, const char *name, const X509 *certificate)
{
	int length = certificate ? i2d_X509(certificate, NULL) : 0;
	uint8_t *der = length > 0 ? malloc((size_t)length) : NULL, *at = der;
	napi_value buffer = null_of(env);

	/* i2d_X509 moves `at`. */
	if (der && i2d_X509(certificate, &at) == length)
		napi_create_buffer_copy(env, (size_t)length, der, NULL, &buffer);
	free(der);
	return napi_set_named_property(env, object, name, buffer) == 0;
}

/* tlsDescribe(hub, slot): what the handshake brought; null: there is no such connection. */
static napi_value tls_describe(napi_env env, napi_callback_info info)
{
	const unsigned char *alpn = NULL;
	unsigned int alpn_length = 0;
	struct connection *one;
	napi_value argv[2], out;
	struct hub *hub;
	long verify;

	if (!take_connection(env, info, 2, argv, &hub, &one))
		return NULL;
	if (!one)
		return null_of(env);
	SSL_get0_alpn_selected(one->ssl, &alpn, &alpn_length);
	verify = SSL_get_verify_result(one->ssl);
	if (napi_create_object(env, &out) != 0 || !set_text(env, out, "alpn", alpn_length ? (const char *)alpn : NULL, alpn_length) ||
	    !set_text(env, out, "serverName", SSL_get_servername(one->ssl, TLSEXT_NAMETYPE_host_name), NAPI_AUTO_LENGTH) ||
	    !set_text(env, out, "version", SSL_get_version(one->ssl), NAPI_AUTO_LENGTH) ||
	    !set_number(env, out, "verifyResult", (double)verify) ||
	    napi_set_named_property(env, out, "postQuantum",
				    boolean_of(env, SSL_ctrl(one->ssl, SSL_CTRL_GET_NEGOTIATED_GROUP, 0, NULL) ==
							    (TLSEXT_nid_unknown | group_x25519_mlkem768))) != 0 ||
	    napi_set_named_property(env, out, "resumed", boolean_of(env, SSL_session_reused(one->ssl) == 1)) != 0 ||
	    !set_text(env, out, "verifyText", verify ? X509_verify_cert_error_string(verify) : NULL, NAPI_AUTO_LENGTH) ||
	    !set_certificate(env, out, "peerCertificate", one->secured ? SSL_get0_peer_certificate(one->ssl) : NULL))
		return NULL;
	return out;
}

/* tlsFailure(hub, slot): what went wrong, and whether it was connecting still; null: there is no such connection. */
static napi_value tls_failure(napi_env env, napi_callback_info info)
{
	struct connection *one;
	napi_value argv[2], out;
	struct hub *hub;

	if (!take_connection(env, info, 2, argv, &hub, &one))
		return NULL;
	if (!one)
		return null_of(env);
	if (napi_create_object(env, &out) != 0 ||
	    napi_set_named_property(env, out, "connecting", boolean_of(env, one->connecting)) != 0 ||
	    !set_text(env, out, "errorCode", one->error_number ? strerrorname_np(one->error_number) : NULL, NAPI_AUTO_LENGTH) ||
	    !set_text(env, out, "error", one->failed ? one->error : NULL, NAPI_AUTO_LENGTH))
		return NULL;
	return out;
}

/* tlsClose(hub, slot): at once, without a word to the peer. */
static napi_value tls_close(napi_env env, napi_callback_info info)
{
	struct connection *one;
	napi_value argv[2];
	struct hub *hub;

	if (!take_connection(env, info, 2, argv, &hub, &one))
		return NULL;
	if (one)
		close_connection(one);
	return undefined_of(env);
}

/* tlsKeyUpdate(hub, slot): new keys in both directions (TLS 1.3, RFC 8446 §4.6.3); they go with the next write. */
static napi_value tls_key_update(napi_env env, napi_callback_info info)
{
	struct connection *one;
	napi_value argv[2];
	struct hub *hub;

	if (!take_connection(env, info, 2, argv, &hub, &one))
		return NULL;
	clear_tls_errors();
	return boolean_of(env, one && one->secured && !one->failed && SSL_key_update(one->ssl, SSL_KEY_UPDATE_REQUESTED) == 1);
}

/* tlsDuplicate(fd): a second descriptor of the same socket. */
static napi_value tls_duplicate(napi_env env, napi_callback_info info)
{
	napi_value argv[1];
	int fd, copy;

	if (!take_arguments(env, info, 1, argv) || !take_fd(env, argv[0], &fd))
		return NULL;
	copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (copy < 0)
		return throw_errno(env, errno, "dup", NULL);
	return number_of(env, copy);
}

/* tlsCloseFd(fd): of a duplicate that no connection took over. */
static napi_value tls_close_fd(napi_env env, napi_callback_info info)
{
	napi_value argv[1];
	int fd;

	if (!take_arguments(env, info, 1, argv) || !take_fd(env, argv[0], &fd))
		return NULL;
	close(fd);
	return undefined_of(env);
}

const struct method connection_methods[] = {
	{ "tlsOpen", tls_open },
	{ "tlsListen", tls_listen },
	{ "tlsSecure", tls_secure },
	{ "tlsWrite", tls_write },
	{ "tlsDescribe", tls_describe },
	{ "tlsFailure", tls_failure },
	{ "tlsKeyUpdate", tls_key_update },
	{ "tlsClose", tls_close },
	{ "tlsDuplicate", tls_duplicate },
	{ "tlsCloseFd", tls_close_fd },
	{ NULL, NULL },
};
