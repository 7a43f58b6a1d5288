/* What the files of the addon share: reading arguments, raising errors. */
#ifndef WEIR_H
#define WEIR_H

#include "node-abi.h"

#define arguments_max 8
#define exported __attribute__((visibility("default")))

struct bytes {
	uint8_t *data;
	size_t length;
};

/* False: an exception is pending, return NULL at once. */
bool take_arguments(napi_env env, napi_callback_info info, size_t count, napi_value *argv);
/* A whole number from least to most, else a TypeError that names it. */
bool take_integer(napi_env env, napi_value value, const char *name, int64_t least, int64_t most, int64_t *out);
bool take_fd(napi_env env, napi_value value, int *out);
bool take_bytes(napi_env env, napi_value value, const char *name, size_t least, size_t most, struct bytes *out);
bool take_text(napi_env env, napi_value value, const char *name, char *out, size_t room);
bool take_bool(napi_env env, napi_value value, const char *name, bool *out);

/* Throws an Error with code, errno, syscall; detail may be NULL. Always NULL, to be returned. */
napi_value throw_errno(napi_env env, int number, const char *syscall, const char *detail);
napi_value throw_type(napi_env env, const char *message);

napi_value number_of(napi_env env, double value);
napi_value boolean_of(napi_env env, bool value);
napi_value null_of(napi_env env);
napi_value undefined_of(napi_env env);
bool set_number(napi_env env, napi_value object, const char *name, double value);

struct method {
	const char *name;
	napi_callback call;
};
extern const struct method bpf_methods[], queue_methods[], socket_methods[], owner_methods[], link_methods[],
	watch_methods[], end_methods[];

#endif
