/*
 * The part of OpenSSL 3 that the addon uses, declared here so that building it needs no headers of it: Node exports
 * these symbols to addons. Everything is handled by pointer; numbers are of the public headers and do not change within
 * OpenSSL 3 (https://docs.openssl.org/3.5/man3/).
 */
#ifndef WEIR_OPENSSL_ABI_H
#define WEIR_OPENSSL_ABI_H

#include <stddef.h>
#include <stdint.h>

typedef struct ssl_st SSL;
typedef struct ssl_ctx_st SSL_CTX;
typedef struct ssl_method_st SSL_METHOD;
typedef struct bio_st BIO;
typedef struct bio_method_st BIO_METHOD;
typedef struct x509_st X509;
typedef struct x509_store_st X509_STORE;
typedef struct evp_pkey_st EVP_PKEY;
typedef struct ssl_session_st SSL_SESSION;
typedef struct stack_st OPENSSL_STACK;
typedef int pem_password_cb(char *, int, int, void *);

#define SSL_ERROR_SSL 1
#define SSL_ERROR_WANT_READ 2
#define SSL_ERROR_ZERO_RETURN 6
#define SSL_TLSEXT_ERR_OK 0
#define SSL_TLSEXT_ERR_ALERT_FATAL 2
#define SSL_TLSEXT_ERR_NOACK 3
#define SSL_KEY_UPDATE_REQUESTED 1
#define SSL_VERIFY_NONE 0
#define SSL_SENT_SHUTDOWN 1
#define SSL_RECEIVED_SHUTDOWN 2
#define SSL_SESS_CACHE_CLIENT 0x0001
#define SSL_SESS_CACHE_NO_INTERNAL 0x0300
#define SSL_OP_NO_TICKET (UINT64_C(1) << 14)
#define SSL_OP_NO_COMPRESSION (UINT64_C(1) << 17)
#define SSL_OP_CIPHER_SERVER_PREFERENCE (UINT64_C(1) << 22)
#define SSL_OP_NO_RENEGOTIATION (UINT64_C(1) << 30)
#define SSL_MODE_RELEASE_BUFFERS 0x10
#define SSL_CTRL_MODE 33
#define SSL_CTRL_SET_SESS_CACHE_MODE 44
#define SSL_CTRL_SET_TLSEXT_HOSTNAME 55
#define SSL_CTRL_CHAIN 88
#define SSL_CTRL_SET_GROUPS_LIST 92
#define SSL_CTRL_SET_MIN_PROTO_VERSION 123
#define SSL_CTRL_GET_NEGOTIATED_GROUP 134
#define TLSEXT_nid_unknown 0x1000000
#define group_x25519_mlkem768 0x11ec /* IANA's number */
#define TLS1_2_VERSION 0x0303
#define TLS1_3_VERSION 0x0304
#define TLSEXT_NAMETYPE_host_name 0
#define BIO_TYPE_SOURCE_SINK 0x0400
#define BIO_FLAGS_READ 1
#define BIO_FLAGS_SHOULD_RETRY 8
#define BIO_CTRL_FLUSH 11

const SSL_METHOD *TLS_server_method(void);
const SSL_METHOD *TLS_client_method(void);
SSL_CTX *SSL_CTX_new(const SSL_METHOD *);
void SSL_CTX_free(SSL_CTX *);
int SSL_CTX_up_ref(SSL_CTX *);
long SSL_CTX_ctrl(SSL_CTX *, int, long, void *);
uint64_t SSL_CTX_set_options(SSL_CTX *, uint64_t);
int SSL_CTX_set_num_tickets(SSL_CTX *, size_t);
int SSL_CTX_set_cipher_list(SSL_CTX *, const char *);
int SSL_CTX_set_ciphersuites(SSL_CTX *, const char *);
int SSL_CTX_use_certificate(SSL_CTX *, X509 *);
int SSL_CTX_use_PrivateKey(SSL_CTX *, EVP_PKEY *);
typedef struct x509_store_ctx_st X509_STORE_CTX;
#define X509_V_ERR_APPLICATION_VERIFICATION 50
void X509_STORE_CTX_set_error(X509_STORE_CTX *, int);
void SSL_CTX_set_cert_verify_callback(SSL_CTX *, int (*)(X509_STORE_CTX *, void *), void *);
void SSL_CTX_set_verify(SSL_CTX *, int, void *);
X509_STORE *SSL_CTX_get_cert_store(const SSL_CTX *);
int X509_STORE_add_cert(X509_STORE *, X509 *);
void SSL_CTX_set_alpn_select_cb(SSL_CTX *, int (*)(SSL *, const unsigned char **, unsigned char *, const unsigned char *, unsigned int, void *), void *);
SSL *SSL_new(SSL_CTX *);
int SSL_use_certificate(SSL *, X509 *);
int SSL_use_PrivateKey(SSL *, EVP_PKEY *);
void SSL_free(SSL *);
long SSL_ctrl(SSL *, int, long, void *);
BIO *SSL_get_rbio(const SSL *);
void SSL_set_bio(SSL *, BIO *, BIO *);
void SSL_set_accept_state(SSL *);
void SSL_set_connect_state(SSL *);
int SSL_set_alpn_protos(SSL *, const unsigned char *, unsigned int);
int SSL_do_handshake(SSL *);
int SSL_read_ex(SSL *, void *, size_t, size_t *);
int SSL_write_ex(SSL *, const void *, size_t, size_t *);
int SSL_shutdown(SSL *);
void SSL_set_shutdown(SSL *, int);
void SSL_CTX_sess_set_new_cb(SSL_CTX *, int (*)(SSL *, SSL_SESSION *));
int SSL_set_session(SSL *, SSL_SESSION *);
int SSL_session_reused(const SSL *);
SSL_SESSION *SSL_SESSION_dup(const SSL_SESSION *);
void SSL_SESSION_free(SSL_SESSION *);
int SSL_SESSION_get_protocol_version(const SSL_SESSION *);
int SSL_key_update(SSL *, int);
int SSL_get_error(const SSL *, int);
long SSL_get_verify_result(const SSL *);
const char *SSL_get_servername(const SSL *, int);
const char *SSL_get_version(const SSL *);
void SSL_get0_alpn_selected(const SSL *, const unsigned char **, unsigned int *);
X509 *SSL_get0_peer_certificate(const SSL *);
int i2d_X509(const X509 *, unsigned char **);
void X509_free(X509 *);
int X509_check_private_key(const X509 *, const EVP_PKEY *);
const char *X509_verify_cert_error_string(long);
void EVP_PKEY_free(EVP_PKEY *);
X509 *PEM_read_bio_X509(BIO *, X509 **, pem_password_cb *, void *);
EVP_PKEY *PEM_read_bio_PrivateKey(BIO *, EVP_PKEY **, pem_password_cb *, void *);
BIO *BIO_new(const BIO_METHOD *);
BIO *BIO_new_mem_buf(const void *, int);
int BIO_free(BIO *);
void BIO_set_data(BIO *, void *);
void *BIO_get_data(BIO *);
void BIO_set_init(BIO *, int);
void BIO_set_flags(BIO *, int);
void BIO_clear_flags(BIO *, int);
int BIO_get_new_index(void);
BIO_METHOD *BIO_meth_new(int, const char *);
void BIO_meth_free(BIO_METHOD *);
int BIO_meth_set_read(BIO_METHOD *, int (*)(BIO *, char *, int));
int BIO_meth_set_write(BIO_METHOD *, int (*)(BIO *, const char *, int));
int BIO_meth_set_ctrl(BIO_METHOD *, long (*)(BIO *, int, long, void *));
OPENSSL_STACK *OPENSSL_sk_new_null(void);
int OPENSSL_sk_push(OPENSSL_STACK *, const void *);
int OPENSSL_sk_num(const OPENSSL_STACK *);
void OPENSSL_sk_pop_free(OPENSSL_STACK *, void (*)(void *));
void ERR_clear_error(void);
unsigned long ERR_peek_error(void);
const char *ERR_reason_error_string(unsigned long);
#endif
