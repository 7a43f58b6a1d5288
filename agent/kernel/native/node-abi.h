/*
 * The part of Node-API (version 8) and libuv that the addon uses, declared here so that building it needs gcc and the
 * headers of libc and Linux only. Both are stable across Node versions: https://nodejs.org/api/n-api.html,
 * https://docs.libuv.org/en/v1.x/ (a uv_poll_t is only ever handled by pointer, its size asked at run time).
 */
#ifndef WEIR_NODE_ABI_H
#define WEIR_NODE_ABI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct napi_env__ *napi_env;
typedef struct napi_value__ *napi_value;
typedef struct napi_ref__ *napi_ref;
typedef struct napi_handle_scope__ *napi_handle_scope;
typedef struct napi_callback_info__ *napi_callback_info;
typedef struct napi_async_context__ *napi_async_context;
typedef int napi_status; /* 0 is napi_ok */
typedef napi_value (*napi_callback)(napi_env, napi_callback_info);
typedef void (*napi_finalize)(napi_env, void *, void *);

#define NAPI_AUTO_LENGTH SIZE_MAX
#define NAPI_NUMBER 3   /* napi_valuetype */
#define NAPI_FUNCTION 7 /* napi_valuetype */
#define NAPI_UINT8_ARRAY 1 /* napi_typedarray_type */
#define NAPI_INT32_ARRAY 5

typedef struct {
	uint64_t lower;
	uint64_t upper;
} napi_type_tag;

napi_status napi_get_cb_info(napi_env, napi_callback_info, size_t *argc, napi_value *argv, napi_value *self, void **data);
napi_status napi_typeof(napi_env, napi_value, int *);
napi_status napi_get_value_double(napi_env, napi_value, double *);
napi_status napi_get_value_bool(napi_env, napi_value, bool *);
napi_status napi_get_value_string_utf8(napi_env, napi_value, char *, size_t, size_t *);
napi_status napi_is_typedarray(napi_env, napi_value, bool *);
napi_status napi_get_typedarray_info(napi_env, napi_value, int *type, size_t *length, void **data, napi_value *, size_t *);
napi_status napi_create_object(napi_env, napi_value *);
napi_status napi_create_double(napi_env, double, napi_value *);
napi_status napi_create_bigint_uint64(napi_env, uint64_t, napi_value *);
napi_status napi_create_string_utf8(napi_env, const char *, size_t, napi_value *);
napi_status napi_create_buffer_copy(napi_env, size_t, const void *, void **, napi_value *);
napi_status napi_create_function(napi_env, const char *, size_t, napi_callback, void *, napi_value *);
napi_status napi_create_error(napi_env, napi_value code, napi_value message, napi_value *);
napi_status napi_set_named_property(napi_env, napi_value, const char *, napi_value);
napi_status napi_get_boolean(napi_env, bool, napi_value *);
napi_status napi_get_null(napi_env, napi_value *);
napi_status napi_get_undefined(napi_env, napi_value *);
napi_status napi_throw(napi_env, napi_value);
napi_status napi_throw_type_error(napi_env, const char *code, const char *message);
napi_status napi_is_exception_pending(napi_env, bool *);
napi_status napi_get_and_clear_last_exception(napi_env, napi_value *);
napi_status napi_fatal_exception(napi_env, napi_value);
napi_status napi_create_reference(napi_env, napi_value, uint32_t, napi_ref *);
napi_status napi_get_reference_value(napi_env, napi_ref, napi_value *);
napi_status napi_delete_reference(napi_env, napi_ref);
napi_status napi_open_handle_scope(napi_env, napi_handle_scope *);
napi_status napi_close_handle_scope(napi_env, napi_handle_scope);
napi_status napi_wrap(napi_env, napi_value, void *, napi_finalize, void *, napi_ref *);
napi_status napi_unwrap(napi_env, napi_value, void **);
napi_status napi_type_tag_object(napi_env, napi_value, const napi_type_tag *);
napi_status napi_check_object_type_tag(napi_env, napi_value, const napi_type_tag *, bool *);
napi_status napi_async_init(napi_env, napi_value, napi_value, napi_async_context *);
napi_status napi_async_destroy(napi_env, napi_async_context);
napi_status napi_make_callback(napi_env, napi_async_context, napi_value, napi_value, size_t, const napi_value *, napi_value *);
napi_status napi_add_env_cleanup_hook(napi_env, void (*)(void *), void *);
napi_status napi_remove_env_cleanup_hook(napi_env, void (*)(void *), void *);

struct uv_loop_s;
napi_status napi_get_uv_event_loop(napi_env, struct uv_loop_s **);

#define UV_CHECK 2 /* uv_handle_type */
#define UV_IDLE 6
#define UV_POLL 8
#define UV_PREPARE 9
#define UV_READABLE 1 /* uv_poll_event */
#define UV_WRITABLE 2
typedef struct uv_poll_s uv_poll_t;
typedef struct uv_check_s uv_check_t;
typedef struct uv_idle_s uv_idle_t;
typedef struct uv_prepare_s uv_prepare_t;
typedef struct uv_handle_s uv_handle_t;
size_t uv_handle_size(int);
int uv_poll_init(struct uv_loop_s *, uv_poll_t *, int fd);
int uv_poll_start(uv_poll_t *, int events, void (*)(uv_poll_t *, int, int));
int uv_poll_stop(uv_poll_t *);
int uv_check_init(struct uv_loop_s *, uv_check_t *);
int uv_check_start(uv_check_t *, void (*)(uv_check_t *));
int uv_idle_init(struct uv_loop_s *, uv_idle_t *);
int uv_idle_start(uv_idle_t *, void (*)(uv_idle_t *));
int uv_idle_stop(uv_idle_t *);
int uv_prepare_init(struct uv_loop_s *, uv_prepare_t *);
int uv_prepare_start(uv_prepare_t *, void (*)(uv_prepare_t *));
int uv_backend_fd(const struct uv_loop_s *);
int uv_backend_timeout(const struct uv_loop_s *);
void uv_unref(uv_handle_t *);
void uv_close(uv_handle_t *, void (*)(uv_handle_t *));
void uv_handle_set_data(uv_handle_t *, void *);
void *uv_handle_get_data(const uv_handle_t *);

#endif
