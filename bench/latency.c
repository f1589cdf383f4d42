/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * One-way latency of single UDP packets: sent in one network namespace, received in another, by one
 * process with one clock. The receiver does not sleep, so that only the way between is measured.
 *
 *     latency CLIENT-NAMESPACE SERVER-NAMESPACE ADDRESS PORT SERVER-PORT COUNT PAUSE-MICROSECONDS
 *
 * Prints the nanoseconds of each packet; 20 ms stand for one that did not arrive within that time.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { PATIENCE_NS = 20000000, SIZE = 22 };

__attribute__((noreturn)) static void fail(const char *what)
{
	fprintf(stderr, "latency: cannot %s: %s\n", what, strerror(errno));
	exit(1);
}

static long long now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static int socket_in(const char *namespace)
{
	int fd = open(namespace, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || setns(fd, CLONE_NEWNET))
		fail("enter a namespace");
	close(fd);
	fd = socket(AF_INET, SOCK_DGRAM, 0);
	if (fd < 0)
		fail("open a socket");
	return fd;
}

int main(int argc, char **argv)
{
	struct sockaddr_in to = { .sin_family = AF_INET }, at = { .sin_family = AF_INET };
	unsigned int number = 0, count, pause;
	int client, server;

	if (argc != 8) {
		fprintf(stderr, "usage: latency CLIENT-NETNS SERVER-NETNS ADDRESS PORT SERVER-PORT COUNT PAUSE-US\n");
		return 2;
	}
	client = socket_in(argv[1]);
	server = socket_in(argv[2]);
	to.sin_addr.s_addr = inet_addr(argv[3]);
	to.sin_port = htons(atoi(argv[4]));
	at.sin_port = htons(atoi(argv[5]));
	count = atoi(argv[6]);
	pause = atoi(argv[7]);
	if (bind(server, (void *)&at, sizeof(at)) || connect(client, (void *)&to, sizeof(to)))
		fail("set the sockets up");
	while (number++ < count) {
		char out[SIZE] = {}, in[64];
		long long sent, now;

		memcpy(out, &number, sizeof(number));
		sent = now_ns();
		if (send(client, out, SIZE, 0) != SIZE && errno != ECONNREFUSED)
			fail("send");
		do {
			ssize_t n = recv(server, in, sizeof(in), MSG_DONTWAIT);

			now = now_ns();
			if (n == SIZE && !memcmp(in, &number, sizeof(number)))
				break;
		} while (now - sent < PATIENCE_NS);
		printf("%lld\n", now - sent < PATIENCE_NS ? now - sent : (long long)PATIENCE_NS);
		usleep(pause);
	}
	return 0;
}
