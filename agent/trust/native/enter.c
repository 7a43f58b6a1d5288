/*
 * weir-enter: becomes a command that sees other files in the place of the host's bundles of certificates.
 *
 *   weir-enter root|user [authority PEM] [slave MOUNT]… [bind|extend SOURCE TARGET]… [remove PATH]… -- PROGRAM NAME WORDS…
 *
 * A mount namespace of its own (and, for who is not root, a user namespace around it) is made, each SOURCE is bound over
 * its TARGET, and PROGRAM is executed. Node cannot do this: a user namespace is only made by a process with one thread.
 * Nothing here prevents the command from running: what fails is one line on standard error, and the command goes without.
 * See mount_namespaces(7), user_namespaces(7).
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include "enter.h"

static struct view view;
static uid_t uid;
static gid_t gid;

/* The first thing that went wrong; one line is said of it. */
static char problem[path_room + 128];

static void fail(const char *format, ...)
{
	va_list list;
	int number = errno;
	size_t at;

	if (problem[0])
		return;
	va_start(list, format);
	vsnprintf(problem, sizeof(problem) - 64, format, list);
	va_end(list);
	at = strlen(problem);
	snprintf(problem + at, sizeof(problem) - at, ": %s", strerror(number));
}

static bool write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t length = (ssize_t)strlen(text);
	bool ok = fd >= 0 && write(fd, text, (size_t)length) == length;

	if (fd >= 0)
		close(fd);
	return ok;
}

/* The caller stays who he is; nobody else is mapped, so that nothing is gained. */
static bool make_namespaces(void)
{
	char map[64];

	if (unshare(view.as_user ? CLONE_NEWUSER | CLONE_NEWNS : CLONE_NEWNS) < 0) {
		fail("unshare");
		return false;
	}
	if (!view.as_user)
		return true;
	/* user_namespaces(7): without this gid_map cannot be written. Absent before Linux 3.19. */
	if (!write_file("/proc/self/setgroups", "deny") && errno != ENOENT) {
		fail("/proc/self/setgroups");
		return false;
	}
	snprintf(map, sizeof(map), "%u %u 1\n", uid, uid);
	if (!write_file("/proc/self/uid_map", map)) {
		fail("/proc/self/uid_map");
		return false;
	}
	snprintf(map, sizeof(map), "%u %u 1\n", gid, gid);
	if (!write_file("/proc/self/gid_map", map)) {
		fail("/proc/self/gid_map");
		return false;
	}
	return true;
}

static bool bind_one(struct bind *one)
{
	one->source_fd = open(one->source, O_RDONLY | O_CLOEXEC);
	if (one->source_fd < 0 || stat(one->target, &one->was) < 0 || mount(one->source, one->target, NULL, MS_BIND, NULL) < 0) {
		fail("%s", one->target);
		return false;
	}
	one->fd = open(one->target, O_PATH | O_CLOEXEC);
	return true;
}

/* True in a child that could make the namespaces and a bind: the parent must not be left halfway. */
static bool trial(void)
{
	int status;
	pid_t pid = fork();

	if (pid == 0)
		_exit(make_namespaces() && (view.count == 0 || bind_one(&view.binds[0])) ? 0 : (errno & 0x7f) ? (errno & 0x7f) : 1);
	if (pid < 0 || waitpid(pid, &status, 0) < 0) {
		fail("fork");
		return false;
	}
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return true;
	errno = WIFEXITED(status) ? WEXITSTATUS(status) : EPERM;
	fail("a user namespace with mounts");
	return false;
}

static void read_authority(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t length = fd < 0 ? 0 : read(fd, view.authority + 1, sizeof(view.authority) - 1);

	if (fd >= 0)
		close(fd);
	if (length <= 0 || length == sizeof(view.authority) - 1)
		return;
	/* The bundle's last line may have no end. */
	view.authority[0] = '\n';
	view.authority_length = (size_t)length + 1;
}

int main(int argc, char **argv)
{
	const char *slaves[binds_max], *removals[binds_max + 1];
	int slave_count = 0, removal_count = 0, bound = 0, at = 2, number;
	bool ready = true;
	struct sigaction usual = { .sa_handler = SIG_DFL };

	if (argc < 2)
		return 2;
	view.as_user = strcmp(argv[1], "user") == 0;
	uid = getuid();
	gid = getgid();
	for (; at < argc && strcmp(argv[at], "--") != 0; at++) {
		if (strcmp(argv[at], "slave") == 0 && at + 1 < argc && slave_count < binds_max)
			slaves[slave_count++] = argv[++at];
		else if (strcmp(argv[at], "remove") == 0 && at + 1 < argc && removal_count <= binds_max)
			removals[removal_count++] = argv[++at];
		else if (strcmp(argv[at], "authority") == 0 && at + 1 < argc)
			read_authority(argv[++at]);
		else if ((strcmp(argv[at], "bind") == 0 || strcmp(argv[at], "extend") == 0) && at + 2 < argc && view.count < binds_max) {
			view.binds[view.count++] = (struct bind){
				.source = argv[at + 1],
				.target = argv[at + 2],
				.extend = strcmp(argv[at], "extend") == 0,
				.source_fd = -1,
				.fd = -1,
			};
			at += 2;
		} else
			return 2;
	}
	if (at + 2 >= argc)
		return 2;
	ready = (!view.as_user || trial()) && make_namespaces();
	/* A bind below a shared mount would show on the host. */
	for (int i = 0; ready && i < slave_count; i++)
		if (mount(NULL, slaves[i], NULL, MS_SLAVE, NULL) < 0) {
			fail("%s", slaves[i]);
			ready = false;
		}
	for (int i = 0; ready && i < view.count; i++)
		bound += bind_one(&view.binds[i]);
	/* A bound file lives on without its name, until the last process of the namespace is gone. */
	for (int i = 0; i < removal_count; i++)
		remove(removals[i]);
	if (problem[0])
		fprintf(stderr,
			"weir run: %s; programs that ignore SSL_CERT_FILE and its like may not trust Weir. See weir run --help, "
			"--trust.\n",
			problem);
	if (bound > 0)
		start_watcher(&view);
	/* Node ignores SIGPIPE, and an ignored signal survives exec. */
	sigaction(SIGPIPE, &usual, NULL);
	/* Of a script without #! it makes a shell's, as env(1) does. */
	execvp(argv[at + 1], argv + at + 2);
	number = errno;
	fprintf(stderr, "weir run: %s: %s\n", argv[at + 1], strerror(number));
	return number == ENOENT ? 127 : 126;
}
