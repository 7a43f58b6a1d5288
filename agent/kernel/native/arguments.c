/* Reading arguments and raising errors, for every addon of the project: none may abort the process. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "weir.h"

bool take_arguments(napi_env env, napi_callback_info info, size_t count, napi_value *argv)
{
	size_t given = count;
	char message[64];

	if (napi_get_cb_info(env, info, &given, argv, NULL, NULL) == 0 && given >= count)
		return true;
	snprintf(message, sizeof(message), "%zu arguments are needed", count);
	throw_type(env, message);
	return false;
}

bool take_integer(napi_env env, napi_value value, const char *name, int64_t least, int64_t most, int64_t *out)
{
	char message[160];
	double number;
	int type;

	if (napi_typeof(env, value, &type) == 0 && type == NAPI_NUMBER &&
	    napi_get_value_double(env, value, &number) == 0 && number >= (double)least && number <= (double)most &&
	    number == (double)(int64_t)number) {
		*out = (int64_t)number;
		return true;
	}
	snprintf(message, sizeof(message), "%s must be a whole number from %lld to %lld", name, (long long)least, (long long)most);
	throw_type(env, message);
	return false;
}

bool take_fd(napi_env env, napi_value value, int *out)
{
	int64_t number;

	if (!take_integer(env, value, "fd", 0, INT32_MAX, &number))
		return false;
	*out = (int)number;
	return true;
}

bool take_bytes(napi_env env, napi_value value, const char *name, size_t least, size_t most, struct bytes *out)
{
	char message[160];
	bool is = false;
	int type;
	void *data = NULL;

	if (napi_is_typedarray(env, value, &is) == 0 && is &&
	    napi_get_typedarray_info(env, value, &type, &out->length, &data, NULL, NULL) == 0 && type == NAPI_UINT8_ARRAY &&
	    out->length >= least && out->length <= most) {
		out->data = data;
		return true;
	}
	snprintf(message, sizeof(message), "%s must be a Uint8Array of %zu to %zu bytes", name, least, most);
	throw_type(env, message);
	return false;
}

bool take_text(napi_env env, napi_value value, const char *name, char *out, size_t room)
{
	char message[160];
	size_t length = 0;

	/* One byte too long is not seen as cut, so the length is asked first. */
	if (napi_get_value_string_utf8(env, value, NULL, 0, &length) == 0 && length > 0 && length < room &&
	    napi_get_value_string_utf8(env, value, out, room, &length) == 0 && strlen(out) == length)
		return true;
	snprintf(message, sizeof(message), "%s must be a string of 1 to %zu bytes without NUL", name, room - 1);
	throw_type(env, message);
	return false;
}

bool take_bool(napi_env env, napi_value value, const char *name, bool *out)
{
	char message[80];

	if (napi_get_value_bool(env, value, out) == 0)
		return true;
	snprintf(message, sizeof(message), "%s must be true or false", name);
	throw_type(env, message);
	return false;
}

napi_value throw_type(napi_env env, const char *message)
{
	napi_throw_type_error(env, "ERR_INVALID_ARG_TYPE", message);
	return NULL;
}

napi_value throw_errno(napi_env env, int number, const char *syscall, const char *detail)
{
	napi_value code, text, error;
	const char *name = strerrorname_np(number);
	char message[512];

	snprintf(message, sizeof(message), "%s: %s (%s)%s%s", syscall, strerror(number), name ? name : "?", detail ? ": " : "", detail ? detail : "");
	if (napi_create_string_utf8(env, name ? name : "EUNKNOWN", NAPI_AUTO_LENGTH, &code) == 0 &&
	    napi_create_string_utf8(env, message, NAPI_AUTO_LENGTH, &text) == 0 &&
	    napi_create_error(env, code, text, &error) == 0) {
		set_number(env, error, "errno", -number);
		if (napi_create_string_utf8(env, syscall, NAPI_AUTO_LENGTH, &text) == 0)
			napi_set_named_property(env, error, "syscall", text);
		napi_throw(env, error);
	}
	return NULL;
}

napi_value number_of(napi_env env, double value)
{
	napi_value out = NULL;

	napi_create_double(env, value, &out);
	return out;
}

napi_value boolean_of(napi_env env, bool value)
{
	napi_value out = NULL;

	napi_get_boolean(env, value, &out);
	return out;
}

napi_value null_of(napi_env env)
{
	napi_value out = NULL;

	napi_get_null(env, &out);
	return out;
}

napi_value undefined_of(napi_env env)
{
	napi_value out = NULL;

	napi_get_undefined(env, &out);
	return out;
}

bool set_number(napi_env env, napi_value object, const char *name, double value)
{
	napi_value number;

	return napi_create_double(env, value, &number) == 0 && napi_set_named_property(env, object, name, number) == 0;
}
