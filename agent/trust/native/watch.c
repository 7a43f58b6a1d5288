/*
 * The watcher beside the command. A file that is bound over cannot be replaced or removed (EBUSY). So that `apt-get install
 * ca-certificates` and `rm -r venv` do what they always do, a bind is taken away as soon as something changes around the
 * file, and put back when it is quiet. What is another file by then is left alone or, with `extend`, shown with the
 * authority at its end. See inotify(7), pidfd_open(2).
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "enter.h"

#define event_bytes 65536
#define bundle_bytes_max (16 * 1024 * 1024)
#define own_prefix "weir-run-"
/* Without a change for so long, a bind comes back; update-ca-certificates pauses for a quarter of it. */
#define quiet_ms 1000

static struct view *view;

static void detach(struct bind *one)
{
	char path[64];

	if (one->fd < 0)
		return;
	/* By its descriptor: the directory may have another name by now. */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", one->fd);
	umount2(path, MNT_DETACH);
	close(one->fd);
	one->fd = -1;
}

static bool copy_all(int from, int to, size_t room)
{
	static char buffer[65536];
	ssize_t length;

	while ((length = read(from, buffer, sizeof(buffer))) > 0) {
		if ((size_t)length > room || write(to, buffer, (size_t)length) != length)
			return false;
		room -= (size_t)length;
	}
	return length == 0;
}

/* Binds a new file with these bytes; it loses its name afterwards, as what has none cannot be bound. */
static bool bind_copy(struct bind *one, int from, const struct stat *like, bool with_authority)
{
	char path[] = "/tmp/" own_prefix "XXXXXX";
	int to = mkostemp(path, O_CLOEXEC);
	bool ok;

	if (to < 0)
		return false;
	/* Readable for whom the original is. */
	ok = (view->as_user || fchown(to, like->st_uid, like->st_gid) == 0) && fchmod(to, like->st_mode & 0777) == 0 &&
	     lseek(from, 0, SEEK_SET) == 0 && copy_all(from, to, bundle_bytes_max) &&
	     (!with_authority || write(to, view->authority, view->authority_length) == (ssize_t)view->authority_length) &&
	     mount(path, one->target, NULL, MS_BIND, NULL) == 0;
	unlink(path);
	close(to);
	return ok;
}

static bool is_same(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
	       a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

/* A file beside the target with its name and more is about to take its place: `ca-certificates.crt.new`. */
static bool has_successor(const char *target)
{
	char directory[path_room];
	const char *name = strrchr(target, '/') + 1;
	size_t length = strlen(name);
	struct dirent *entry;
	bool found = false;
	DIR *list;

	snprintf(directory, sizeof(directory), "%.*s", (int)(name - target), target);
	list = opendir(directory);
	while (list != NULL && !found && (entry = readdir(list)) != NULL)
		found = strncmp(entry->d_name, name, length) == 0 && entry->d_name[length] == '.';
	if (list != NULL)
		closedir(list);
	return found;
}

/*
 * What is still the file that it was is bound over as before; a new one shows itself and the authority. False: not yet.
 */
static bool attach_again(struct bind *one)
{
	struct stat now;
	bool bound = false;
	int from;

	if (one->fd >= 0 || one->source_fd < 0 || lstat(one->target, &now) < 0 || !S_ISREG(now.st_mode))
		return true;
	if (has_successor(one->target))
		return false;
	if (is_same(&now, &one->was))
		bound = bind_copy(one, one->source_fd, &now, false);
	else if (one->extend && view->authority_length > 0 && (from = open(one->target, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)) >= 0) {
		bound = bind_copy(one, from, &now, true);
		close(from);
	}
	if (bound)
		one->fd = open(one->target, O_PATH | O_CLOEXEC);
	return true;
}

static bool is_named(const char *path, const struct inotify_event *event)
{
	const char *slash = strrchr(path, '/');

	return event->len > 0 && slash != NULL && strcmp(slash + 1, event->name) == 0;
}

/* Caches of byte code, which a first import writes, and files of ours. */
static bool is_noise(const char *name)
{
	return strcmp(name, "__pycache__") == 0 || strncmp(name, own_prefix, sizeof(own_prefix) - 1) == 0;
}

/* Anything in the file's own directory but a cache of byte code; above it only what goes, which may be all of it. */
static bool on_event(const struct inotify_event *event)
{
	bool some = false;

	/* What a new file takes the place of is whole at once: who installs certificates and goes on finds them extended. */
	for (int at = 0; (event->mask & IN_MOVED_TO) != 0 && at < view->count; at++)
		if (event->wd == view->binds[at].watches[0] && is_named(view->binds[at].target, event)) {
			detach(&view->binds[at]);
			return !attach_again(&view->binds[at]);
		}
	/* Events were lost: whatever it was may still go on. */
	for (int at = 0; (event->mask & IN_Q_OVERFLOW) != 0 && at < view->count; at++) {
		detach(&view->binds[at]);
		some = true;
	}
	for (int at = 0; at < view->count; at++)
		for (int level = 0; level < levels_max; level++) {
			bool goes = (event->mask & (IN_DELETE | IN_MOVED_FROM)) != 0;

			if (event->wd != view->binds[at].watches[level] || (level > 0 && !goes) ||
			    (event->len > 0 && is_noise(event->name)))
				continue;
			detach(&view->binds[at]);
			some = true;
		}
	return some;
}

static void add_watches(int notes, struct bind *one)
{
	const uint32_t own = IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_MOVE_SELF | IN_DELETE_SELF;
	char directory[path_room];
	struct stat about;
	char *slash;

	for (int level = 0; level < levels_max; level++)
		one->watches[level] = -1;
	if (one->fd < 0 || strlen(one->target) >= sizeof(directory))
		return;
	strcpy(directory, one->target);
	for (int level = 0; level < levels_max; level++) {
		slash = strrchr(directory, '/');
		if (slash == NULL || slash == directory)
			return;
		*slash = 0;
		/* What goes in a directory for everybody says nothing of ours. */
		if (level > 0 && (stat(directory, &about) < 0 || (about.st_mode & S_ISVTX) != 0))
			return;
		one->watches[level] =
			inotify_add_watch(notes, directory, IN_ONLYDIR | IN_MASK_ADD | (level == 0 ? own : IN_DELETE | IN_MOVED_FROM));
	}
}

/* A pipe that stays open here would keep its reader waiting after the command's end. */
static void close_all_but(int *kept, int count)
{
	unsigned int from = 0;

	for (int sorted = 1; sorted < count; sorted++)
		for (int at = sorted; at > 0 && kept[at - 1] > kept[at]; at--) {
			int other = kept[at];

			kept[at] = kept[at - 1];
			kept[at - 1] = other;
		}
	for (int at = 0; at < count; at++) {
		if (kept[at] < 0)
			continue;
		if ((unsigned int)kept[at] > from)
			syscall(SYS_close_range, from, (unsigned int)kept[at] - 1, 0);
		from = (unsigned int)kept[at] + 1;
	}
	syscall(SYS_close_range, from, ~0U, 0);
}

/* Until the command has ended. Its start waits for the end of a pipe, which is closed when every watch stands. */
static void watch(pid_t command)
{
	static char buffer[event_bytes] __attribute__((aligned(__alignof__(struct inotify_event))));
	int pidfd = (int)syscall(SYS_pidfd_open, command, 0), notes = inotify_init1(IN_CLOEXEC);
	struct pollfd polled[2] = { { pidfd, POLLIN, 0 }, { notes, POLLIN, 0 } };
	int kept[2 * binds_max + 3], count = 0;
	bool waiting = false;

	if (pidfd < 0 || notes < 0 || chdir("/") < 0)
		return;
	for (int at = 0; at < view->count; at++)
		add_watches(notes, &view->binds[at]);
	kept[count++] = pidfd;
	kept[count++] = notes;
	for (int at = 0; at < view->count; at++) {
		kept[count++] = view->binds[at].fd;
		kept[count++] = view->binds[at].source_fd;
	}
	close_all_but(kept, count);
	for (;;) {
		int got = poll(polled, 2, waiting ? quiet_ms : -1);

		if ((got < 0 && errno != EINTR) || polled[0].revents != 0)
			return;
		if (got == 0) {
			waiting = false;
			for (int at = 0; at < view->count; at++)
				waiting |= !attach_again(&view->binds[at]);
		}
		if (got <= 0 || polled[1].revents == 0)
			continue;
		ssize_t length = read(notes, buffer, sizeof(buffer));

		for (ssize_t from = 0; from < length;) {
			const struct inotify_event *event = (const void *)(buffer + from);

			waiting |= on_event(event);
			from += (ssize_t)(sizeof(*event) + event->len);
		}
	}
}

/* Not a child of the command, which would be told of a child's end that it does not know. */
void start_watcher(struct view *shared)
{
	pid_t command = getpid(), pid;
	int ready[2];
	char nothing;

	view = shared;
	if (pipe2(ready, O_CLOEXEC) < 0)
		return;
	pid = fork();
	if (pid == 0) {
		setsid();
		close(ready[0]);
		if (fork() == 0)
			watch(command);
		_exit(0);
	}
	close(ready[1]);
	if (pid > 0) {
		waitpid(pid, NULL, 0);
		while (read(ready[0], &nothing, 1) < 0 && errno == EINTR)
			;
	}
	close(ready[0]);
}

