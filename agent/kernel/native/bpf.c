/* bpf(2), one function a command. What is loaded and how it hangs together is decided in bpf.ts. */
#include <errno.h>
#include <linux/bpf.h>
#include <stdlib.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "weir.h"

#define load_tries_max 16
#define map_bytes_max 4096
#define name_room 16
#define path_room 256
#define instruction_bytes 8
#define program_bytes_max (8 * 65536)
#define verifier_log_bytes (256 * 1024)
/* The end of a verifier's log says why; the rest is the way there. */
#define verifier_log_shown 400

static int sys_bpf(int command, union bpf_attr *attr)
{
	return (int)syscall(SYS_bpf, command, attr, sizeof(*attr));
}

static uint64_t pointer(const void *to)
{
	return (uint64_t)(uintptr_t)to;
}

static napi_value map_create(napi_env env, napi_callback_info info)
{
	napi_value argv[6];
	int64_t type, key, value, entries, flags;
	char name[name_room];
	union bpf_attr attr = { 0 };
	int fd;

	if (!take_arguments(env, info, 6, argv) || !take_integer(env, argv[0], "type", 1, 64, &type) ||
	    !take_integer(env, argv[1], "keyBytes", 1, map_bytes_max, &key) ||
	    !take_integer(env, argv[2], "valueBytes", 1, map_bytes_max, &value) ||
	    !take_integer(env, argv[3], "entriesMax", 1, 1 << 24, &entries) ||
	    !take_integer(env, argv[4], "flags", 0, UINT32_MAX, &flags) || !take_text(env, argv[5], "name", name, sizeof(name)))
		return NULL;
	attr.map_type = (uint32_t)type;
	attr.key_size = (uint32_t)key;
	attr.value_size = (uint32_t)value;
	attr.max_entries = (uint32_t)entries;
	attr.map_flags = (uint32_t)flags;
	strcpy(attr.map_name, name);
	fd = sys_bpf(BPF_MAP_CREATE, &attr);
	return fd < 0 ? throw_errno(env, errno, "bpf BPF_MAP_CREATE", name) : number_of(env, fd);
}

/* The kernel believes in the sizes that the map was made with, so the buffers are held against them, asked of it. */
static bool map_sizes(napi_env env, int fd, const struct bytes *key, const struct bytes *value)
{
	struct bpf_map_info map = { 0 };
	union bpf_attr attr = { 0 };

	attr.info.bpf_fd = (uint32_t)fd;
	attr.info.info_len = sizeof(map);
	attr.info.info = pointer(&map);
	if (sys_bpf(BPF_OBJ_GET_INFO_BY_FD, &attr) < 0) {
		throw_errno(env, errno, "bpf BPF_OBJ_GET_INFO_BY_FD", NULL);
		return false;
	}
	if (key->length == map.key_size && (!value || value->length == map.value_size))
		return true;
	throw_type(env, "key or value do not have the map's size");
	return false;
}

static bool take_map(napi_env env, napi_callback_info info, size_t count, napi_value *argv, int *fd, struct bytes *key, struct bytes *value)
{
	return take_arguments(env, info, count, argv) && take_fd(env, argv[0], fd) &&
	       take_bytes(env, argv[1], "key", 1, map_bytes_max, key) &&
	       (!value || take_bytes(env, argv[2], "value", 1, map_bytes_max, value)) && map_sizes(env, *fd, key, value);
}

static napi_value map_update(napi_env env, napi_callback_info info)
{
	napi_value argv[3];
	struct bytes key, value;
	union bpf_attr attr = { 0 };
	int fd;

	if (!take_map(env, info, 3, argv, &fd, &key, &value))
		return NULL;
	attr.map_fd = (uint32_t)fd;
	attr.key = pointer(key.data);
	attr.value = pointer(value.data);
	if (sys_bpf(BPF_MAP_UPDATE_ELEM, &attr) < 0)
		return throw_errno(env, errno, "bpf BPF_MAP_UPDATE_ELEM", NULL);
	return undefined_of(env);
}

static napi_value map_lookup(napi_env env, napi_callback_info info)
{
	napi_value argv[4];
	struct bytes key, value;
	union bpf_attr attr = { 0 };
	bool take;
	int fd, failed;

	if (!take_map(env, info, 4, argv, &fd, &key, &value) || !take_bool(env, argv[3], "take", &take))
		return NULL;
	attr.map_fd = (uint32_t)fd;
	attr.key = pointer(key.data);
	attr.value = pointer(value.data);
	failed = sys_bpf(take ? BPF_MAP_LOOKUP_AND_DELETE_ELEM : BPF_MAP_LOOKUP_ELEM, &attr);
	/* Hash maps know the command since Linux 5.14. */
	if (failed < 0 && take && (errno == EINVAL || errno == EOPNOTSUPP || errno == 524)) {
		failed = sys_bpf(BPF_MAP_LOOKUP_ELEM, &attr);
		if (failed == 0)
			sys_bpf(BPF_MAP_DELETE_ELEM, &attr);
	}
	if (failed < 0 && errno != ENOENT)
		return throw_errno(env, errno, "bpf BPF_MAP_LOOKUP_ELEM", NULL);
	return boolean_of(env, failed == 0);
}

static napi_value map_delete(napi_env env, napi_callback_info info)
{
	napi_value argv[2];
	struct bytes key;
	union bpf_attr attr = { 0 };
	int fd, failed;

	if (!take_map(env, info, 2, argv, &fd, &key, NULL))
		return NULL;
	attr.map_fd = (uint32_t)fd;
	attr.key = pointer(key.data);
	failed = sys_bpf(BPF_MAP_DELETE_ELEM, &attr);
	if (failed < 0 && errno != ENOENT)
		return throw_errno(env, errno, "bpf BPF_MAP_DELETE_ELEM", NULL);
	return boolean_of(env, failed == 0);
}

static napi_value prog_load(napi_env env, napi_callback_info info)
{
	napi_value argv[5];
	int64_t type, attach;
	struct bytes code;
	char license[32], name[name_room];
	union bpf_attr attr = { 0 };
	sigset_t all, before;
	char *log;
	int fd = -1, number = 0;

	if (!take_arguments(env, info, 5, argv) || !take_integer(env, argv[0], "type", 1, 64, &type) ||
	    !take_integer(env, argv[1], "attachType", 0, 128, &attach) ||
	    !take_bytes(env, argv[2], "instructions", instruction_bytes, program_bytes_max, &code) ||
	    !take_text(env, argv[3], "license", license, sizeof(license)) || !take_text(env, argv[4], "name", name, sizeof(name)))
		return NULL;
	if (code.length % instruction_bytes)
		return throw_type(env, "instructions must be whole ones of 8 bytes");
	attr.prog_type = (uint32_t)type;
	attr.expected_attach_type = (uint32_t)attach;
	attr.insn_cnt = (uint32_t)(code.length / instruction_bytes);
	attr.insns = pointer(code.data);
	attr.license = pointer(license);
	strcpy(attr.prog_name, name);
	/* A signal that waits (a child has ended) stops the verifier with EAGAIN; it is blocked for so long, and the rest tried again. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	for (int tries = 0; tries < load_tries_max; tries++) {
		fd = sys_bpf(BPF_PROG_LOAD, &attr);
		number = errno;
		if (fd >= 0 || number != EAGAIN)
			break;
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (fd >= 0)
		return number_of(env, fd);
	/* Once more for the verifier's log: writing it costs, and is of use only when loading failed. */
	log = calloc(1, verifier_log_bytes);
	if (log) {
		attr.log_level = 1;
		attr.log_size = verifier_log_bytes;
		attr.log_buf = pointer(log);
		fd = sys_bpf(BPF_PROG_LOAD, &attr);
		if (fd >= 0)
			close(fd);
	}
	if (log && *log) {
		size_t length = strnlen(log, verifier_log_bytes - 1);

		throw_errno(env, number, "bpf BPF_PROG_LOAD", log + (length > verifier_log_shown ? length - verifier_log_shown : 0));
	} else {
		throw_errno(env, number, "bpf BPF_PROG_LOAD", name);
	}
	free(log);
	return NULL;
}

static napi_value link_create(napi_env env, napi_callback_info info)
{
	napi_value argv[3];
	int64_t attach;
	union bpf_attr attr = { 0 };
	int program, target, fd;

	if (!take_arguments(env, info, 3, argv) || !take_fd(env, argv[0], &program) || !take_fd(env, argv[1], &target) ||
	    !take_integer(env, argv[2], "attachType", 0, 128, &attach))
		return NULL;
	attr.link_create.prog_fd = (uint32_t)program;
	attr.link_create.target_fd = (uint32_t)target;
	attr.link_create.attach_type = (uint32_t)attach;
	fd = sys_bpf(BPF_LINK_CREATE, &attr);
	return fd < 0 ? throw_errno(env, errno, "bpf BPF_LINK_CREATE", NULL) : number_of(env, fd);
}

static napi_value link_detach(napi_env env, napi_callback_info info)
{
	napi_value argv[1];
	union bpf_attr attr = { 0 };
	int fd;

	if (!take_arguments(env, info, 1, argv) || !take_fd(env, argv[0], &fd))
		return NULL;
	attr.link_detach.link_fd = (uint32_t)fd;
	if (sys_bpf(BPF_LINK_DETACH, &attr) < 0)
		return throw_errno(env, errno, "bpf BPF_LINK_DETACH", NULL);
	return undefined_of(env);
}

static napi_value pin(napi_env env, napi_callback_info info)
{
	napi_value argv[2];
	char path[path_room];
	union bpf_attr attr = { 0 };
	int fd;

	if (!take_arguments(env, info, 2, argv) || !take_fd(env, argv[0], &fd) || !take_text(env, argv[1], "path", path, sizeof(path)))
		return NULL;
	attr.bpf_fd = (uint32_t)fd;
	attr.pathname = pointer(path);
	if (sys_bpf(BPF_OBJ_PIN, &attr) < 0)
		return throw_errno(env, errno, "bpf BPF_OBJ_PIN", path);
	return undefined_of(env);
}

static napi_value open_pinned(napi_env env, napi_callback_info info)
{
	napi_value argv[1];
	char path[path_room];
	union bpf_attr attr = { 0 };
	int fd;

	if (!take_arguments(env, info, 1, argv) || !take_text(env, argv[0], "path", path, sizeof(path)))
		return NULL;
	attr.pathname = pointer(path);
	fd = sys_bpf(BPF_OBJ_GET, &attr);
	return fd < 0 ? throw_errno(env, errno, "bpf BPF_OBJ_GET", path) : number_of(env, fd);
}

static napi_value mount_bpf(napi_env env, napi_callback_info info)
{
	napi_value argv[1];
	char path[path_room];

	if (!take_arguments(env, info, 1, argv) || !take_text(env, argv[0], "path", path, sizeof(path)))
		return NULL;
	if (mount("bpf", path, "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0700") < 0)
		return throw_errno(env, errno, "mount", path);
	return undefined_of(env);
}

static napi_value unmount(napi_env env, napi_callback_info info)
{
	napi_value argv[1];
	char path[path_room];

	if (!take_arguments(env, info, 1, argv) || !take_text(env, argv[0], "path", path, sizeof(path)))
		return NULL;
	if (umount2(path, UMOUNT_NOFOLLOW) < 0)
		return throw_errno(env, errno, "umount", path);
	return undefined_of(env);
}

const struct method bpf_methods[] = {
	{ "bpfMapCreate", map_create },	  { "bpfMapUpdate", map_update }, { "bpfMapLookup", map_lookup },
	{ "bpfMapDelete", map_delete },	  { "bpfProgLoad", prog_load },	  { "bpfLinkCreate", link_create },
	{ "bpfLinkDetach", link_detach }, { "bpfPin", pin },		  { "bpfOpenPinned", open_pinned },
	{ "mountBpf", mount_bpf },	  { "unmount", unmount },	  { NULL, NULL },
};
