/* Ends the process at once. */
#include <unistd.h>

#include "weir.h"

/* endNow(code): nothing is run at its end, and no thread waited for; libuv joins those that look names up. */
static napi_value end_now(napi_env env, napi_callback_info info)
{
	napi_value argv[1];
	int64_t code;

	if (!take_arguments(env, info, 1, argv) || !take_integer(env, argv[0], "code", 0, 255, &code))
		return NULL;
	_exit((int)code);
}

const struct method end_methods[] = {
	{ "endNow", end_now },
	{ NULL, NULL },
};
