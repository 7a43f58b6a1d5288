/*
 * TLS settings that many sockets share: certificate and key, trusted roots, ciphers. Made from PEM; all servers' have one
 * SSL_CTX, as making one takes longer than minting a leaf.
 * TLS 1.2 and 1.3 only. No renegotiation, no compression. Clients get no ticket: it costs as much as it saves. What a server
 * gives is resumed where the caller has a context for that server alone (tlsResuming).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine.h"

#define pem_bytes_max (4 * 1024 * 1024)
#define cipher_bytes_max 4096

static const napi_type_tag tag = { 0x77656972746c7363, 0x6f6e746578740001 };

/* The first error is the cause, those behind it say who else gave up because of it. */
const char *tls_reason(void)
{
	const char *reason = ERR_reason_error_string(ERR_peek_error());

	return reason ? reason : "unknown reason";
}

void clear_tls_errors(void)
{
	/* Clearing walks the whole queue; it is empty nearly always. */
	if (ERR_peek_error())
		ERR_clear_error();
}

static napi_value throw_tls(napi_env env, const char *what)
{
	napi_value code, text, error;
	char message[256];

	snprintf(message, sizeof(message), "%s: %s", what, tls_reason());
	clear_tls_errors();
	if (napi_create_string_utf8(env, "ERR_TLS_CONTEXT", NAPI_AUTO_LENGTH, &code) == 0 &&
	    napi_create_string_utf8(env, message, NAPI_AUTO_LENGTH, &text) == 0 && napi_create_error(env, code, text, &error) == 0)
		napi_throw(env, error);
	return NULL;
}

struct context *take_context(napi_env env, napi_value value)
{
	struct context *context = NULL;
	bool is = false;

	if (napi_check_object_type_tag(env, value, &tag, &is) == 0 && is && napi_unwrap(env, value, (void **)&context) == 0)
		return context;
	throw_type(env, "context must be one that tlsContext gave");
	return NULL;
}

static void free_certificate(void *certificate)
{
	X509_free(certificate);
}

struct ticket *hold_ticket(struct ticket *ticket)
{
	if (ticket)
		ticket->holders++;
	return ticket;
}

void drop_ticket(struct ticket *ticket)
{
	if (!ticket || --ticket->holders)
		return;
	SSL_SESSION_free(ticket->session);
	free(ticket);
}

static void free_context(struct context *context)
{
	drop_ticket(context->ticket);
	X509_free(context->leaf.certificate);
	EVP_PKEY_free(context->leaf.key);
	OPENSSL_sk_pop_free(context->leaf.chain, free_certificate);
	SSL_CTX_free(context->ctx);
	free(context);
}

static void finalize(napi_env env, void *data, void *hint)
{
	(void)env, (void)hint;
	/* Sockets that still use it hold references of their own. */
	free_context(data);
}

/* Takes the context over. */
static napi_value wrapped(napi_env env, struct context *context)
{
	napi_value object;

	if (napi_create_object(env, &object) == 0 && napi_type_tag_object(env, object, &tag) == 0 &&
	    napi_wrap(env, object, context, finalize, NULL, NULL) == 0)
		return object;
	free_context(context);
	return throw_type(env, "the context could not be wrapped");
}

/* A key behind a pass phrase is refused: OpenSSL would else ask for it on the terminal. */
static int no_phrase(char *buffer, int size, int writing, void *data)
{
	(void)buffer, (void)size, (void)writing, (void)data;
	return -1;
}

static bool add_roots(SSL_CTX *ctx, struct bytes pem)
{
	X509_STORE *store = SSL_CTX_get_cert_store(ctx);
	BIO *bio = BIO_new_mem_buf(pem.data, (int)pem.length);
	size_t count = 0;
	X509 *one;

	while (bio && (one = PEM_read_bio_X509(bio, NULL, no_phrase, NULL))) {
		count += X509_STORE_add_cert(store, one) == 1;
		X509_free(one);
	}
	BIO_free(bio);
	/* The end of the text is an error to the PEM reader; without one certificate it is one to us. */
	if (count)
		clear_tls_errors();
	return count > 0;
}

static bool read_leaf(struct leaf *leaf, struct bytes cert, struct bytes key)
{
	BIO *certs = BIO_new_mem_buf(cert.data, (int)cert.length);
	BIO *keys = BIO_new_mem_buf(key.data, (int)key.length);
	X509 *next;
	bool ok;

	leaf->certificate = certs ? PEM_read_bio_X509(certs, NULL, no_phrase, NULL) : NULL;
	leaf->key = keys ? PEM_read_bio_PrivateKey(keys, NULL, no_phrase, NULL) : NULL;
	leaf->chain = OPENSSL_sk_new_null();
	ok = leaf->certificate && leaf->key && leaf->chain && X509_check_private_key(leaf->certificate, leaf->key) == 1;
	while (ok && (next = PEM_read_bio_X509(certs, NULL, no_phrase, NULL))) {
		/* On success the stack owns it. */
		if (OPENSSL_sk_push(leaf->chain, next) <= 0) {
			X509_free(next);
			ok = false;
		}
	}
	if (ok)
		clear_tls_errors();
	BIO_free(certs);
	BIO_free(keys);
	return ok;
}

bool put_leaf(SSL *ssl, const struct leaf *leaf)
{
	return SSL_use_certificate(ssl, leaf->certificate) == 1 && SSL_use_PrivateKey(ssl, leaf->key) == 1 &&
	       (!OPENSSL_sk_num(leaf->chain) || SSL_ctrl(ssl, SSL_CTRL_CHAIN, 1, leaf->chain) == 1);
}

static bool put_client_leaf(SSL_CTX *ctx, const struct leaf *leaf)
{
	return SSL_CTX_use_certificate(ctx, leaf->certificate) == 1 && SSL_CTX_use_PrivateKey(ctx, leaf->key) == 1 &&
	       (!OPENSSL_sk_num(leaf->chain) || SSL_CTX_ctrl(ctx, SSL_CTRL_CHAIN, 1, leaf->chain) == 1);
}

/* NULL: OpenSSL says why. */
static SSL_CTX *new_settings(bool server, const char *list, const char *suites, const char *groups)
{
	SSL_CTX *ctx = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());

	if (!ctx || SSL_CTX_ctrl(ctx, SSL_CTRL_SET_MIN_PROTO_VERSION, TLS1_2_VERSION, NULL) != 1 ||
	    SSL_CTX_set_cipher_list(ctx, list) != 1 || SSL_CTX_set_ciphersuites(ctx, suites) != 1) {
		SSL_CTX_free(ctx);
		return NULL;
	}
	/* A list that an older OpenSSL cannot read leaves its own in force. */
	if (SSL_CTX_ctrl(ctx, SSL_CTRL_SET_GROUPS_LIST, 0, (void *)groups) != 1)
		clear_tls_errors();
	SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_NO_TICKET | SSL_OP_CIPHER_SERVER_PREFERENCE);
	SSL_CTX_set_num_tickets(ctx, 0);
	SSL_CTX_ctrl(ctx, SSL_CTRL_SET_SESS_CACHE_MODE, server ? 0 : SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL, NULL);
	SSL_CTX_ctrl(ctx, SSL_CTRL_MODE, SSL_MODE_RELEASE_BUFFERS, NULL);
	/* The chain is judged by the caller, who can say why: the handshake goes on, the result is kept. */
	SSL_CTX_set_verify(ctx, SSL_VERIFY_NONE, NULL);
	if (server)
		SSL_CTX_set_alpn_select_cb(ctx, select_alpn, NULL);
	else
		SSL_CTX_sess_set_new_cb(ctx, keep_session);
	return ctx;
}

/* All servers' of a thread have the same settings, which is found out by comparing them with the last ones. */
static SSL_CTX *settings_of(bool server, const char *list, const char *suites, const char *groups)
{
	static _Thread_local struct {
		SSL_CTX *ctx;
		char list[cipher_bytes_max], suites[cipher_bytes_max], groups[cipher_bytes_max];
	} last;

	if (!server)
		return new_settings(false, list, suites, groups);
	if (!last.ctx || strcmp(last.list, list) || strcmp(last.suites, suites) || strcmp(last.groups, groups)) {
		SSL_CTX *ctx = new_settings(true, list, suites, groups);

		if (!ctx)
			return NULL;
		SSL_CTX_free(last.ctx);
		last.ctx = ctx;
		strcpy(last.list, list);
		strcpy(last.suites, suites);
		strcpy(last.groups, groups);
	}
	SSL_CTX_up_ref(last.ctx);
	return last.ctx;
}

/* The result says that nobody looked, should it be asked for all the same. */
static int unverified(X509_STORE_CTX *chain, void *data)
{
	(void)data;
	X509_STORE_CTX_set_error(chain, X509_V_ERR_APPLICATION_VERIFICATION);
	return 1;
}

/* tlsContext(server, certPem, keyPem, rootsPem, cipherList, cipherSuites, groups, verify): empty bytes mean "none". */
static napi_value tls_context(napi_env env, napi_callback_info info)
{
	char list[cipher_bytes_max], suites[cipher_bytes_max], groups[cipher_bytes_max];
	struct bytes cert, key, roots;
	const char *failed = NULL;
	struct context *context;
	napi_value argv[8];
	bool server, verify;

	if (!take_arguments(env, info, 8, argv) || !take_bool(env, argv[0], "server", &server) ||
	    !take_bytes(env, argv[1], "cert", 0, pem_bytes_max, &cert) || !take_bytes(env, argv[2], "key", 0, pem_bytes_max, &key) ||
	    !take_bytes(env, argv[3], "roots", 0, pem_bytes_max, &roots) ||
	    !take_text(env, argv[4], "cipherList", list, sizeof(list)) || !take_text(env, argv[5], "cipherSuites", suites, sizeof(suites)) ||
	    !take_text(env, argv[6], "groups", groups, sizeof(groups)) ||
	    !take_bool(env, argv[7], "verify", &verify))
		return NULL;
	context = calloc(1, sizeof(*context));
	if (!context)
		return throw_type(env, "out of memory");
	context->server = server;
	clear_tls_errors();
	if (!(context->ctx = settings_of(server, list, suites, groups)))
		failed = "TLS ciphers";
	else if ((server || cert.length) && !(read_leaf(&context->leaf, cert, key) && (server || put_client_leaf(context->ctx, &context->leaf))))
		failed = "TLS certificate or key";
	else if (roots.length && !add_roots(context->ctx, roots))
		failed = "TLS roots";
	if (failed) {
		free_context(context);
		return throw_tls(env, failed);
	}
	if (!server && !verify)
		SSL_CTX_set_cert_verify_callback(context->ctx, unverified, NULL);
	return wrapped(env, context);
}

/* tlsResuming(context): the same settings for one server, whose last session (RFC 8446 §2.2) its next connection offers. */
static napi_value tls_resuming(napi_env env, napi_callback_info info)
{
	struct context *of, *context;
	napi_value argv[1];

	if (!take_arguments(env, info, 1, argv) || !(of = take_context(env, argv[0])))
		return NULL;
	if (of->server)
		return throw_type(env, "context must be a client's");
	context = calloc(1, sizeof(*context));
	if (!context || !(context->ticket = calloc(1, sizeof(*context->ticket)))) {
		free(context);
		return throw_type(env, "out of memory");
	}
	hold_ticket(context->ticket);
	SSL_CTX_up_ref(of->ctx);
	context->ctx = of->ctx;
	return wrapped(env, context);
}

const struct method context_methods[] = {
	{ "tlsContext", tls_context },
	{ "tlsResuming", tls_resuming },
	{ NULL, NULL },
};
