/* OpenSSL's side: it reads what was received from memory, and writes into the hub's buffer. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine.h"

static int cipher_read(BIO *bio, char *to, int room)
{
	struct connection *one = BIO_get_data(bio);
	size_t take = one->in_left < (size_t)room ? one->in_left : (size_t)room;

	if (room <= 0 || !take) {
		BIO_set_flags(bio, BIO_FLAGS_READ | BIO_FLAGS_SHOULD_RETRY);
		return -1;
	}
	BIO_clear_flags(bio, BIO_FLAGS_READ | BIO_FLAGS_SHOULD_RETRY);
	memcpy(to, one->in, take);
	one->in += take;
	one->in_left -= take;
	return (int)take;
}

static int cipher_write(BIO *bio, const char *from, int length)
{
	struct connection *one = BIO_get_data(bio);
	struct hub *hub = one->hub;

	if (length <= 0)
		return length;
	if (hub->cipher_room - hub->cipher_length < (size_t)length) {
		size_t room = (hub->cipher_length + (size_t)length) * 2;
		uint8_t *more = realloc(hub->cipher_out, room);

		if (!more) {
			hub->cipher_failed = true;
			return -1;
		}
		hub->cipher_out = more;
		hub->cipher_room = room;
	}
	memcpy(hub->cipher_out + hub->cipher_length, from, (size_t)length);
	hub->cipher_length += (size_t)length;
	return length;
}

static long cipher_control(BIO *bio, int command, long number, void *pointer)
{
	(void)bio, (void)number, (void)pointer;
	return command == BIO_CTRL_FLUSH;
}

/* Of TLS 1.2 none: without a new agreement its key would protect later connections as well. 1: the session is ours now. */
int keep_session(SSL *ssl, SSL_SESSION *session)
{
	struct connection *one = BIO_get_data(SSL_get_rbio(ssl));

	if (!one->ticket || SSL_SESSION_get_protocol_version(session) != TLS1_3_VERSION)
		return 0;
	SSL_SESSION_free(one->ticket->session);
	one->ticket->session = session;
	return 1;
}

BIO_METHOD *cipher_method(void)
{
	BIO_METHOD *method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "weir");

	if (method && BIO_meth_set_read(method, cipher_read) == 1 && BIO_meth_set_write(method, cipher_write) == 1 &&
	    BIO_meth_set_ctrl(method, cipher_control) == 1)
		return method;
	BIO_meth_free(method);
	return NULL;
}

/* The first of our protocols that the client offers too; a client that offers none of them is refused (RFC 7301 §3.2). */
int select_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_length, const unsigned char *in, unsigned int in_length, void *data)
{
	const struct connection *one = BIO_get_data(SSL_get_rbio(ssl));

	(void)data;
	if (!one->alpn_length)
		return SSL_TLSEXT_ERR_NOACK;
	for (size_t own = 0; own < one->alpn_length; own += 1u + one->alpn[own])
		for (size_t at = 0; at < in_length && at + in[at] < in_length; at += 1u + in[at])
			if (in[at] == one->alpn[own] && !memcmp(in + at + 1, one->alpn + own + 1, in[at])) {
				*out = in + at + 1;
				*out_length = in[at];
				return SSL_TLSEXT_ERR_OK;
			}
	return SSL_TLSEXT_ERR_ALERT_FATAL;
}

/* An error of OpenSSL's; its alert, if it wrote one, still goes out. */
static void fail_tls(struct connection *one, int result)
{
	int kind = SSL_get_error(one->ssl, result);

	fail(one, 0, kind == SSL_ERROR_SSL ? tls_reason() : "the connection broke off");
	clear_tls_errors();
}

void write_plain(struct connection *one, const uint8_t *from, size_t length)
{
	size_t written = 0;
	int result;

	if (one->closed || one->failed || one->ending || !one->secured || !length)
		return;
	clear_tls_errors();
	result = SSL_write_ex(one->ssl, from, length, &written);
	if (result != 1 || written != length)
		fail_tls(one, result);
}

void end_plain(struct connection *one)
{
	if (one->closed || one->failed || one->ending)
		return;
	one->ending = true;
	clear_tls_errors();
	if (one->secured)
		SSL_shutdown(one->ssl);
	clear_tls_errors();
}

/* Takes all of `in`: what is not a whole record yet stays with OpenSSL. */
void decrypt(struct connection *one)
{
	struct hub *hub = one->hub;
	size_t begin = hub->slab_used;
	bool now = false;
	int result = 1;

	clear_tls_errors();
	if (!one->secured) {
		result = SSL_do_handshake(one->ssl);
		if (result == 1) {
			one->secured = true;
			add_event(one, event_secure, 0, 0);
			now = true;
		}
	}
	/* read_room holds all that one read can bring, so the slab does not end before the bytes do. */
	while (result == 1 && hub->slab_used < hub->slab_length) {
		size_t got = 0;

		result = SSL_read_ex(one->ssl, hub->slab + hub->slab_used, hub->slab_length - hub->slab_used, &got);
		if (result == 1)
			hub->slab_used += got;
	}
	if (hub->slab_used > begin)
		add_event(one, event_data, begin, hub->slab_used - begin);
	else if (now && one->server)
		acknowledge(one);
	if (result != 1) {
		int kind = SSL_get_error(one->ssl, result);

		if (kind == SSL_ERROR_ZERO_RETURN) {
			one->read_ended = true;
			add_event(one, event_end, 0, 0);
		} else if (kind != SSL_ERROR_WANT_READ) {
			fail_tls(one, result);
		}
	} else {
		fail(one, ENOBUFS, "one read brought more than readRoom");
	}
	one->in_left = 0;
	if (hub->cipher_length)
		send_cipher(one);
}
