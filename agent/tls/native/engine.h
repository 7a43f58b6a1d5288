/*
 * TLS over sockets whose bytes cross into JavaScript in few calls.
 *
 * One hub per environment. What its connections bring is decrypted into a slab that JavaScript gave, noted as events, and
 * told with one call for several of them; what JavaScript writes meanwhile is laid into another slab, noted as operations,
 * and encrypted and sent when that call returns. Nothing of OpenSSL runs while JavaScript does, so a connection may be
 * closed at any point of it. Its slot is given away again only in libuv's closing phase, when every event and every
 * operation about it is done.
 */
#ifndef WEIR_TLS_ENGINE_H
#define WEIR_TLS_ENGINE_H

#include "openssl-abi.h"
#include "weir.h"

/* Cipher text that is taken from the kernel at once. */
#define receive_bytes_max (64 * 1024)
/* A record that began in an earlier read ends in this one: 2^14 bytes of plain text and some (RFC 8446 §5.2). */
#define record_bytes_max (17 * 1024)
/* Plain text that one read can bring. */
#define read_room (receive_bytes_max + record_bytes_max)
/* Cipher text that waits for one peer; writers are told to stop long before (`highWaterBytes` in JavaScript). */
#define pending_bytes_max (64 * 1024 * 1024)
/* A buffer that grew beyond is given back when it is empty. */
#define pending_keep_bytes (64 * 1024)
/* Plain text that is encrypted before it is sent: bounds the buffer in between. */
#define encrypt_bytes_max (128 * 1024)
#define alpn_bytes_max 256
#define server_name_bytes_max 255
#define connections_most (1 << 20)
/* More events than this are told before the turn ends, so that the other side gets to work while we go on. */
#define events_told_at_once 4
/* What one poll can add: drain, secure, data, end. */
#define events_per_poll 4

/* Numbers that agent/tls/native/hub.ts knows too. */
enum { event_secure, event_data, event_end, event_drain, event_finished, event_error };
enum { op_write, op_end, op_resume };
enum { state_pending, state_reading, state_armed, state_words };
/* The first operation's place: how many there are, how much of the slab they use, whether the turn's end is awaited, vain waits. */
enum { event_words = 4, op_words = 4 };

/* A certificate, its key and those between it and a root. */
struct leaf {
	X509 *certificate;
	EVP_PKEY *key;
	OPENSSL_STACK *chain;
};

/* The last session of a server, which the next connection to it may resume: shared by its context and connections. */
struct ticket {
	size_t holders;
	SSL_SESSION *session;
};

struct context {
	SSL_CTX *ctx;
	bool server;
	/* NULL: nothing is resumed. */
	struct ticket *ticket;
	/* A server's is put on each of its connections: what else is in its SSL_CTX is the same for all, and dear to make. */
	struct leaf leaf;
};

struct hub;

struct connection {
	struct hub *hub;
	/* On the hub's list of those that have something to tell or to begin which no poll will bring. */
	struct connection *next_late;
	int slot, fd, interest;
	/* `raw`: there is no TLS yet, and what comes is told as it is. */
	bool late, raw, server, connecting, starting, secured, read_ended, ending, shut, failed, closed;
	uv_poll_t *poll;
	SSL *ssl;
	struct ticket *ticket;
	/* What OpenSSL may read now. */
	const uint8_t *in;
	size_t in_left;
	/* Bytes of the handshake that were read before, until the handshake has begun. */
	uint8_t *first;
	size_t first_length;
	/* Cipher text that the kernel did not take yet. */
	uint8_t *pending;
	size_t pending_start, pending_length, pending_room;
	uint8_t alpn[alpn_bytes_max];
	size_t alpn_length;
	int error_number; /* errno, or 0 when TLS failed */
	char error[160];
};

/* wait.c: the two connections that spoke last, and whether it pays to wait for them. */
struct wait {
	int slots[2], credit, turns, pause;
	bool heard;
};

struct hub {
	napi_env env;
	napi_ref self, callback, shared[4], slab_reference;
	napi_async_context context;
	struct uv_loop_s *loop;
	uv_check_t *check;
	uv_idle_t *idle;
	uv_prepare_t *prepare;
	struct wait wait;
	bool open, finalized, dispatching, idling;
	int handles;
	BIO_METHOD *bio;

	/* Shared with JavaScript. */
	int32_t *events, *ops, *state;
	size_t event_room, event_count, op_room, slots;
	uint8_t *out, *slab;
	size_t out_length, slab_length, slab_used;

	struct connection **connections, *late;
	int *free_slots;
	size_t free_count;

	/* Cipher text of the one connection that is being encrypted for. */
	uint8_t *cipher_out;
	size_t cipher_length, cipher_room;
	bool cipher_failed;
	uint8_t cipher_in[receive_bytes_max];
};

/* context.c */
struct context *take_context(napi_env env, napi_value value); /* NULL: an exception is pending */
bool put_leaf(SSL *, const struct leaf *);
struct ticket *hold_ticket(struct ticket *);
void drop_ticket(struct ticket *);
const char *tls_reason(void);
void clear_tls_errors(void);

/* cipher.c: OpenSSL's side */
BIO_METHOD *cipher_method(void);
int keep_session(SSL *, SSL_SESSION *);
int select_alpn(SSL *, const unsigned char **, unsigned char *, const unsigned char *, unsigned int, void *);
void write_plain(struct connection *, const uint8_t *from, size_t length);
void end_plain(struct connection *);
void decrypt(struct connection *);

/* stream.c: the kernel's side */
void send_cipher(struct connection *);
void set_interest(struct connection *);
void acknowledge(struct connection *);
void fail(struct connection *, int number, const char *message);
void close_connection(struct connection *);

/* turn.c: JavaScript's side */
int32_t *state_of(struct connection *);
bool has_room(struct hub *);
void add_event(struct connection *, int kind, size_t offset, size_t length);
void make_late(struct connection *);
void flush_ops(struct hub *);
void dispatch(struct hub *, bool last);
struct connection *connection_at(struct hub *, int64_t slot);

/* wait.c */
void heard(struct wait *, int slot);
void start_waiting(struct hub *);

/* hub.c */
struct hub *take_hub(napi_env env, napi_value value);
void hub_handle_closed(struct hub *);

extern const struct method context_methods[], hub_methods[], connection_methods[];

#endif
