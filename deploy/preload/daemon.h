/* Questions to pointsmand: HTTP on its unix socket, one connection for each. */
#ifndef POINTSMAN_PRELOAD_DAEMON_H
#define POINTSMAN_PRELOAD_DAEMON_H

#include <stdint.h>
#include <strings.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "bytes.h"
#include "real.h"

#define DEFAULT_SOCKET "/run/pointsman/pointsman.sock"

enum { HEADER_MAX = 256 };
/* What a restart of the daemon takes, and what a request may take behind a change of planes. */
enum { PATIENCE_MS = 10000, RETRY_MS = 50, ANSWER_S = 60 };

/* Whether a daemon has answered here, so that it is worth while to wait for one. */
static int daemon_known;

static int connect_once(int *socket_fd)
{
	const struct timeval limit = { .tv_sec = ANSWER_S };
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	const char *path = secure_getenv("POINTSMAN_SOCKET");
	int fd, error = 0;

	if (!path || !*path)
		path = DEFAULT_SOCKET;
	if (strlen(path) >= sizeof(address.sun_path))
		return ENAMETOOLONG;
	strcpy(address.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return errno;
	real.setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	real.setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	while (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		if (errno == EISCONN)
			break;
		if (errno != EINTR) {
			error = errno;
			close(fd);
			return error;
		}
	}
	*socket_fd = fd;
	return 0;
}

/* A daemon whose socket is not there yet, or not served any more, may be on its way. */
static int is_away(int error) { return error == ENOENT || error == ECONNREFUSED; }

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void pause_ms(long ms)
{
	const struct timespec pause = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 };

	nanosleep(&pause, NULL);
}

static int send_all(int fd, const void *content, size_t length)
{
	const unsigned char *at = content;

	while (length > 0) {
		ssize_t count = real.sendto(fd, at, length, MSG_NOSIGNAL, NULL, 0);

		if (count < 0 && errno == EINTR)
			continue;
		if (count < 0)
			return errno;
		at += count;
		length -= (size_t)count;
	}
	return 0;
}

static int read_all(int fd, struct bytes *into)
{
	for (;;) {
		unsigned char part[BUFFER_MIN];
		ssize_t count = real.recvfrom(fd, part, sizeof(part), 0, NULL, NULL);

		if (count == 0)
			return 0;
		if (count > 0 && append(into, part, (size_t)count))
			return ENOMEM;
		if (count < 0 && errno != EINTR)
			return errno == EAGAIN ? ETIMEDOUT : errno;
	}
}

/* RFC 9112 §7.1: pieces, each behind its length, and one of no length at the end of what is whole. */
static int join_pieces(unsigned char *body, size_t *length)
{
	size_t from = 0, to = 0;

	for (;;) {
		unsigned char *line = memmem(body + from, *length - from, "\r\n", 2);
		unsigned long long piece;

		if (!line)
			return ECONNRESET;
		piece = strtoull((const char *)body + from, NULL, 16);
		from = (size_t)(line - body) + 2;
		if (piece == 0)
			break;
		if (piece > *length - from || *length - from - piece < 2)
			return ECONNRESET;
		memmove(body + to, body + from, piece);
		to += piece;
		from += piece + 2;
	}
	*length = to;
	return 0;
}

/* What an HTTP answer holds; its head is left out. Returns an error number. */
static int take_body(struct bytes *answer)
{
	unsigned char *end = answer->length ? memmem(answer->at, answer->length, "\r\n\r\n", 4) : NULL;
	const char *announced;
	size_t head, length;
	int status;

	if (!end)
		return ECONNRESET;
	*end = '\0';
	head = (size_t)(end - answer->at) + 4;
	length = answer->length - head;
	if (sscanf((const char *)answer->at, "HTTP/1.%*d %d", &status) != 1)
		return EPROTO;
	announced = strcasestr((const char *)answer->at, "\r\ncontent-length:");
	if (announced && strtoull(announced + strlen("\r\ncontent-length:"), NULL, 10) != length)
		return ECONNRESET;
	if (status == 403)
		return EPERM;
	if (status == 503)
		return ECONNREFUSED;
	/* An older daemon does not know the route. */
	if (status == 404)
		return EPROTONOSUPPORT;
	if (status != 200)
		return EIO;
	if (strcasestr((const char *)answer->at, "\r\ntransfer-encoding: chunked") &&
	    join_pieces(answer->at + head, &length))
		return ECONNRESET;
	memmove(answer->at, answer->at + head, length);
	answer->length = length;
	return 0;
}

static int ask_once(const char *head, size_t head_length, const struct bytes *content, struct bytes *answer)
{
	int fd, error = connect_once(&fd);

	if (error)
		return error;
	answer->length = 0;
	error = send_all(fd, head, head_length);
	if (!error && content)
		error = send_all(fd, content->at, content->length);
	/* A daemon that refuses a request may answer before it has read it all. */
	if (!error || error == EPIPE)
		error = read_all(fd, answer);
	close(fd);
	return error ? error : take_body(answer);
}

/* One request of the daemon. Returns an error number; the host's errno is left to the caller. */
static int ask(const char *line, const struct bytes *content, struct bytes *answer)
{
	char head[HEADER_MAX];
	const int length = snprintf(head, sizeof(head),
				    "%s HTTP/1.1\r\nHost: pointsman\r\nConnection: close\r\n"
				    "Content-Type: application/octet-stream\r\nContent-Length: %zu\r\n\r\n",
				    line, content ? content->length : 0);
	const int64_t until = now_ms() + PATIENCE_MS;
	int error;

	for (;;) {
		error = ask_once(head, (size_t)length, content, answer);
		if (!is_away(error) || !__atomic_load_n(&daemon_known, __ATOMIC_RELAXED) || now_ms() >= until)
			break;
		pause_ms(RETRY_MS);
	}
	/* One that has gone for good is not waited for again with every request. */
	__atomic_store_n(&daemon_known, !is_away(error), __ATOMIC_RELAXED);
	return error;
}

#endif
