/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * One TCP connection at full speed.
 *
 *     bulk server PORT
 *     bulk client ADDRESS PORT MILLISECONDS
 *
 * The client sends for that long, then waits for the server to tell how many bytes have arrived, and
 * prints these and the nanoseconds it all took.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BLOCK = 256 * 1024 };
static char block[BLOCK];

__attribute__((noreturn)) static void fail(const char *what)
{
	fprintf(stderr, "bulk: cannot %s: %s\n", what, strerror(errno));
	exit(1);
}

static long long now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static void serve(int port)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(port) };
	int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1;

	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(listener, (void *)&at, sizeof(at)) || listen(listener, 16))
		fail("listen");
	puts("ready");
	for (;;) {
		int fd = accept(listener, NULL, NULL);
		long long total = 0;
		ssize_t n;

		if (fd < 0)
			fail("accept");
		while ((n = read(fd, block, BLOCK)) > 0)
			total += n;
		if (n == 0 && write(fd, &total, sizeof(total)) < 0)
			perror("bulk: cannot answer");
		close(fd);
	}
}

static int send_bulk(const char *address, int port, int milliseconds)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(port) };
	struct timeval patience = { .tv_sec = 5 };
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	long long started, arrived = 0;

	at.sin_addr.s_addr = inet_addr(address);
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (connect(fd, (void *)&at, sizeof(at)))
		fail("connect");
	started = now_ns();
	while (now_ns() - started < milliseconds * 1000000ll)
		if (write(fd, block, BLOCK) < 0)
			fail("send");
	shutdown(fd, SHUT_WR);
	if (recv(fd, &arrived, sizeof(arrived), MSG_WAITALL) != sizeof(arrived))
		fail("hear from the server");
	printf("%lld %lld\n", arrived, now_ns() - started);
	return 0;
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	signal(SIGPIPE, SIG_IGN);
	if (argc == 3 && !strcmp(argv[1], "server"))
		serve(atoi(argv[2]));
	if (argc == 5 && !strcmp(argv[1], "client"))
		return send_bulk(argv[2], atoi(argv[3]), atoi(argv[4]));
	fprintf(stderr, "usage: bulk server PORT | bulk client ADDRESS PORT MILLISECONDS\n");
	return 2;
}
