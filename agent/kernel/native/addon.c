/* The addon's entry: the table of what is exported. */
#include "weir.h"

exported int32_t node_api_module_get_api_version_v1(void)
{
	return 8;
}

exported napi_value napi_register_module_v1(napi_env env, napi_value exports)
{
	const struct method *tables[] = { bpf_methods, queue_methods, socket_methods, owner_methods,
					  link_methods, watch_methods, end_methods };
	napi_value function;

	for (size_t at = 0; at < sizeof(tables) / sizeof(*tables); at++)
		for (const struct method *one = tables[at]; one->name; one++)
			if (napi_create_function(env, one->name, NAPI_AUTO_LENGTH, one->call, NULL, &function) != 0 ||
			    napi_set_named_property(env, exports, one->name, function) != 0)
				return NULL;
	return exports;
}
