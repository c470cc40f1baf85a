/* The limit of what a user process can do: an edge-triggered epoll loop that splices through 1 MiB pipes and reads on
 * while a write waits. It has no fallback and no policy. The caller passes a listening socket and never gets control
 * back. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <unistd.h>

#define PIPE_SIZE (1 << 20)
#define EVENTS 256
/* Splices of one direction before the next one gets its turn. */
#define TURNS 16

struct side {
	struct pair *pair;
	int fd;
	int readable, writable;
};

struct direction {
	int pipe[2];
	size_t held;
	int source_ended, done;
};

struct pair {
	struct side side[2];
	/* Direction 0 is from side 0 to side 1. */
	struct direction direction[2];
	int queued;
	struct pair *next;
};

/* Pairs that may be able to move bytes. */
static struct pair *ready;

static void enqueue(struct pair *pair)
{
	if (pair->queued)
		return;
	pair->queued = 1;
	pair->next = ready;
	ready = pair;
}

static int open_direction(struct direction *direction)
{
	if (pipe2(direction->pipe, O_NONBLOCK | O_CLOEXEC) < 0)
		return -1;
	fcntl(direction->pipe[0], F_SETPIPE_SZ, PIPE_SIZE);
	return 0;
}

static void close_pair(struct pair *pair)
{
	for (int i = 0; i < 2; i++) {
		close(pair->side[i].fd);
		close(pair->direction[i].pipe[0]);
		close(pair->direction[i].pipe[1]);
	}
	free(pair);
}

/* Moves bytes until neither end allows more. Returns 1 if turns are used up, -1 after an error. */
static int pump(struct direction *direction, struct side *from, struct side *to)
{
	const unsigned flags = SPLICE_F_MOVE | SPLICE_F_NONBLOCK;

	for (int turn = 0; turn < TURNS && !direction->done; turn++) {
		int moved = 0;
		if (from->readable && !direction->source_ended && direction->held < PIPE_SIZE) {
			ssize_t n = splice(from->fd, NULL, direction->pipe[1], NULL, PIPE_SIZE - direction->held, flags);
			if (n > 0) {
				direction->held += n;
				moved = 1;
			} else if (n == 0) {
				direction->source_ended = 1;
			} else if (errno != EAGAIN) {
				return -1;
			} else if (!direction->held) {
				/* With bytes in the pipe, it may be the pipe that is full. */
				from->readable = 0;
			}
		}
		if (to->writable && direction->held) {
			ssize_t n = splice(direction->pipe[0], NULL, to->fd, NULL, direction->held, flags);
			if (n > 0) {
				direction->held -= n;
				moved = 1;
			} else if (n < 0 && errno != EAGAIN) {
				return -1;
			} else {
				to->writable = 0;
			}
		}
		if (direction->source_ended && !direction->held) {
			shutdown(to->fd, SHUT_WR);
			direction->done = 1;
		}
		if (!moved)
			return 0;
	}
	return !direction->done;
}

static void serve_pair(struct pair *pair)
{
	int forth = pump(&pair->direction[0], &pair->side[0], &pair->side[1]);
	int back = forth < 0 ? -1 : pump(&pair->direction[1], &pair->side[1], &pair->side[0]);

	if (back < 0 || (pair->direction[0].done && pair->direction[1].done))
		close_pair(pair);
	else if (forth || back)
		enqueue(pair);
}

static int accept_pair(int epoll, int listener, struct sockaddr_in *upstream)
{
	int on = 1, client = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (client < 0)
		return -1;
	int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct pair *pair = calloc(1, sizeof *pair);
	if (server < 0 || !pair || connect(server, (struct sockaddr *)upstream, sizeof *upstream) < 0)
		abort();
	fcntl(server, F_SETFL, O_NONBLOCK);
	pair->side[0] = (struct side){ pair, client, 1, 1 };
	pair->side[1] = (struct side){ pair, server, 1, 1 };
	for (int i = 0; i < 2; i++) {
		setsockopt(pair->side[i].fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
		struct epoll_event event = { EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, { .ptr = &pair->side[i] } };
		if (open_direction(&pair->direction[i]) < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, pair->side[i].fd, &event) < 0)
			abort();
	}
	return 0;
}

/* Both numbers in the byte order of the host. */
int peers_splice_proxy(int listener, uint32_t upstream_ip, uint16_t upstream_port)
{
	struct sockaddr_in upstream = { .sin_family = AF_INET, .sin_port = htons(upstream_port) };
	struct epoll_event events[EVENTS], accepting = { EPOLLIN, { .ptr = NULL } };
	int epoll = epoll_create1(EPOLL_CLOEXEC);

	upstream.sin_addr.s_addr = htonl(upstream_ip);
	if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &accepting) < 0)
		return -1;
	for (;;) {
		int n = epoll_wait(epoll, events, EVENTS, ready ? 0 : -1);
		if (n < 0 && errno != EINTR)
			return -1;
		for (int i = 0; i < n; i++) {
			struct side *side = events[i].data.ptr;
			if (!side) {
				while (accept_pair(epoll, listener, &upstream) == 0)
					;
				continue;
			}
			if (events[i].events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
				side->readable = 1;
			if (events[i].events & (EPOLLOUT | EPOLLHUP | EPOLLERR))
				side->writable = 1;
			/* Not served at once: both sides of a pair may have an event in this batch. */
			enqueue(side->pair);
		}
		struct pair *batch = ready;
		ready = NULL;
		while (batch) {
			struct pair *pair = batch;
			batch = pair->next;
			pair->queued = 0;
			serve_pair(pair);
		}
	}
}
