/*
 * A short busy wait before the event loop sleeps, for one conversation that has the loop to itself.
 *
 * A query and its answer wake this thread twice. Where the processors are virtual ones that halt when idle, each time costs
 * more than all that is done about the query. So a thread whose two last connections go on taking turns looks for the next
 * bytes a little while before it sleeps. With more connections there is no gap to wait in and the processor is others': it
 * sleeps at once, as it does for a while when the looking was in vain.
 */
#include <sys/epoll.h>
#include <time.h>

#include "engine.h"

/*
 * Longer than a server on the same machine takes over a short statement, with the wake-up of its processor: a wait that is given
 * up a little too early is paid for twice.
 */
#define wait_ns_max 250000
/* As many turns in a row of nobody else: some are in every handshake. */
#define turns_alone 32
#define credit_max 8
#define miss_costs 2
/* Turns without a try when the credit is used up: one vain wait in so many. */
#define turns_paused 512

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000LL + now.tv_nsec;
}

/* This slot's connection has brought data in this turn. */
void heard(struct wait *wait, int slot)
{
	wait->heard = true;
	if (slot == wait->slots[0] || slot == wait->slots[1])
		return;
	wait->slots[1] = wait->slots[0];
	wait->slots[0] = slot;
	wait->turns = 0;
}

/* Whether something can be read, on any descriptor that the loop watches. */
static bool look(int epoll)
{
	struct epoll_event event;
	int64_t end = now_ns() + wait_ns_max;

	do {
		if (epoll_wait(epoll, &event, 1, 0) != 0)
			return true;
	} while (now_ns() < end);
	return false;
}

static void before_poll(uv_prepare_t *prepare)
{
	struct hub *hub = uv_handle_get_data((uv_handle_t *)prepare);
	struct wait *wait = &hub->wait;

	if (!wait->heard || uv_backend_timeout(hub->loop) == 0)
		return;
	wait->heard = false;
	if (wait->turns < turns_alone) {
		wait->turns++;
		return;
	}
	if (wait->pause) {
		wait->pause--;
		return;
	}
	if (look(uv_backend_fd(hub->loop))) {
		if (wait->credit < credit_max)
			wait->credit++;
	} else {
		hub->ops[3]++;
		wait->credit -= miss_costs;
		if (wait->credit < 0) {
			wait->credit = miss_costs;
			wait->pause = turns_paused;
		}
	}
}

void start_waiting(struct hub *hub)
{
	hub->wait.slots[0] = hub->wait.slots[1] = -1;
	hub->wait.credit = credit_max;
	uv_prepare_init(hub->loop, hub->prepare);
	uv_handle_set_data((uv_handle_t *)hub->prepare, hub);
	uv_prepare_start(hub->prepare, before_poll);
	uv_unref((uv_handle_t *)hub->prepare);
}
