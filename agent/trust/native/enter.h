/* What the two files of weir-enter share. */
#ifndef WEIR_ENTER_H
#define WEIR_ENTER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

#define binds_max 128
#define path_room 4096
#define authority_bytes_max 16384
/* Of directories above a bound file that are watched: lib/python3/site-packages/certifi. */
#define levels_max 5

struct bind {
	const char *source, *target;
	/* A new file in the target's place is bound over too, with the authority at its end. */
	bool extend;
	int source_fd;
	/* O_PATH on what is bound, with which it is found again after its directory was moved. -1: not bound. */
	int fd;
	/* The target itself, below the bind. */
	struct stat was;
	/* Its directory, and those above. */
	int watches[levels_max];
};

struct view {
	struct bind binds[binds_max];
	int count;
	/* With a line break before it. */
	char authority[authority_bytes_max];
	size_t authority_length;
	/* In a user namespace: nobody else is mapped, and no file can be given away. */
	bool as_user;
};

/* Leaves a process beside this one that keeps the binds out of the way of changes. */
void start_watcher(struct view *view);

#endif
