/* What is measured of libevent itself, written as its manual and its sample le-proxy.c teach: a TCP proxy and a line
 * server on bufferevents. The caller gives a listening socket and never gets control back. */

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>

/* Where le-proxy stops reading from one side until the other has taken half of it. */
#define MAX_OUTPUT (512 * 1024)

static void no_delay(evutil_socket_t fd)
{
	int on = 1;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

/* Runs `base` with `accepted` for each connection of `listen_fd`. Returns -1 if it cannot. */
static int serve(int listen_fd, struct event_base *base, evconnlistener_cb accepted, void *arg)
{
	struct evconnlistener *listener =
	    evconnlistener_new(base, accepted, arg, LEV_OPT_CLOSE_ON_FREE, 0, listen_fd);
	if (!listener)
		return -1;
	return event_base_dispatch(base);
}

/* ---- proxy ---- */

struct proxy {
	struct event_base *base;
	struct sockaddr_in upstream;
};

struct side {
	struct bufferevent *bev;
	struct side *peer;
	int eof;      /* the other end of this connection has finished sending */
	int finished; /* and all of it has been passed on */
};

struct pair {
	struct side client, server;
};

static struct pair *pair_of(struct side *side)
{
	return (struct pair *)(side < side->peer ? side : side->peer);
}

static void end_pair(struct side *side)
{
	struct pair *pair = pair_of(side);
	bufferevent_free(pair->client.bev);
	bufferevent_free(pair->server.bev);
	free(pair);
}

/* Passes the end of stream of `from` on, once its bytes are out. */
static void pass_eof(struct side *from)
{
	struct side *to = from->peer;
	if (!from->eof || from->finished || evbuffer_get_length(bufferevent_get_output(to->bev)))
		return;
	from->finished = 1;
	shutdown(bufferevent_getfd(to->bev), SHUT_WR);
	if (to->finished)
		end_pair(from);
}

static void proxy_read(struct bufferevent *bev, void *arg)
{
	struct side *side = arg, *peer = side->peer;
	struct evbuffer *out = bufferevent_get_output(peer->bev);

	evbuffer_add_buffer(out, bufferevent_get_input(bev));
	if (evbuffer_get_length(out) >= MAX_OUTPUT) {
		bufferevent_setwatermark(peer->bev, EV_WRITE, MAX_OUTPUT / 2, MAX_OUTPUT);
		bufferevent_disable(bev, EV_READ);
	}
}

static void proxy_written(struct bufferevent *bev, void *arg)
{
	struct side *side = arg, *from = side->peer;

	bufferevent_setwatermark(bev, EV_WRITE, 0, 0);
	if (!from->eof)
		bufferevent_enable(from->bev, EV_READ);
	pass_eof(from);
}

static void proxy_event(struct bufferevent *bev, short what, void *arg)
{
	struct side *side = arg;

	if (what & BEV_EVENT_ERROR) {
		end_pair(side);
	} else if (what & BEV_EVENT_EOF) {
		side->eof = 1;
		proxy_read(bev, side);
		pass_eof(side);
	} else if (what & BEV_EVENT_CONNECTED) {
		no_delay(bufferevent_getfd(bev));
	}
}

static void proxy_accepted(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *from, int len, void *arg)
{
	struct proxy *proxy = arg;
	struct pair *pair = calloc(1, sizeof *pair);
	(void)listener, (void)from, (void)len;

	if (!pair)
		abort();
	no_delay(fd);
	pair->client.peer = &pair->server;
	pair->server.peer = &pair->client;
	pair->client.bev = bufferevent_socket_new(proxy->base, fd, BEV_OPT_CLOSE_ON_FREE);
	pair->server.bev = bufferevent_socket_new(proxy->base, -1, BEV_OPT_CLOSE_ON_FREE);
	if (!pair->client.bev || !pair->server.bev)
		abort();
	bufferevent_setcb(pair->client.bev, proxy_read, proxy_written, proxy_event, &pair->client);
	bufferevent_setcb(pair->server.bev, proxy_read, proxy_written, proxy_event, &pair->server);
	if (bufferevent_socket_connect(pair->server.bev, (struct sockaddr *)&proxy->upstream, sizeof proxy->upstream) < 0) {
		end_pair(&pair->client);
		return;
	}
	bufferevent_enable(pair->client.bev, EV_READ | EV_WRITE);
	bufferevent_enable(pair->server.bev, EV_READ | EV_WRITE);
}

/* Both numbers in the byte order of the host. */
int peers_libevent_proxy(int listen_fd, uint32_t upstream_ip, uint16_t upstream_port)
{
	struct proxy proxy = { .base = event_base_new() };
	if (!proxy.base)
		return -1;
	proxy.upstream.sin_family = AF_INET;
	proxy.upstream.sin_addr.s_addr = htonl(upstream_ip);
	proxy.upstream.sin_port = htons(upstream_port);
	return serve(listen_fd, proxy.base, proxy_accepted, &proxy);
}

/* ---- line server ---- */

static void lines_read(struct bufferevent *bev, void *arg)
{
	struct evbuffer *in = bufferevent_get_input(bev), *out = bufferevent_get_output(bev);
	size_t len;
	char *line;
	(void)arg;

	while ((line = evbuffer_readln(in, &len, EVBUFFER_EOL_LF))) {
		evbuffer_add(out, line, len);
		evbuffer_add(out, "\n", 1);
		free(line);
	}
}

static void lines_event(struct bufferevent *bev, short what, void *arg)
{
	(void)arg;
	if (what & (BEV_EVENT_EOF | BEV_EVENT_ERROR))
		bufferevent_free(bev);
}

static void lines_accepted(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *from, int len, void *arg)
{
	struct bufferevent *bev = bufferevent_socket_new(arg, fd, BEV_OPT_CLOSE_ON_FREE);
	(void)listener, (void)from, (void)len;

	if (!bev)
		abort();
	no_delay(fd);
	bufferevent_setcb(bev, lines_read, NULL, lines_event, NULL);
	bufferevent_enable(bev, EV_READ | EV_WRITE);
}

int peers_libevent_lines(int listen_fd)
{
	struct event_base *base = event_base_new();
	return base ? serve(listen_fd, base, lines_accepted, base) : -1;
}
