/*
 * pointsman-preload.so: IPVS for programs that look for it in the kernel.
 *
 *     LD_PRELOAD=/usr/lib/pointsman/pointsman-preload.so keepalived
 *
 * Programs that set up IPVS (keepalived, the original ipvsadm) send generic netlink messages to the
 * kernel's family `IPVS`. With this library those messages, and only those, go to pointsmand
 * (POST /v1/netlink on its unix socket), and its answers come back on the same netlink socket, so that
 * poll, select and epoll, blocking and not, work as ever:
 *
 *   sendmsg   carries the request to the daemon and takes its answer, as the kernel answers within the
 *             call. Then the kernel is sent a message that it only acknowledges (NLMSG_NOOP): the
 *             acknowledgement, the *token*, makes the socket readable and holds the answer's place
 *             among what the kernel itself has to say.
 *   recvmsg   where the next datagram is a token, hands out a datagram of the answer in its stead.
 *
 * What a program may not notice otherwise: descriptors are not replaced, nothing is kept by descriptor
 * (they are looked at when a message is ours), threads and fork() are free to come.
 *
 * A daemon that is being restarted is waited for, once there has been one: PATIENCE_MS.
 */
#define _GNU_SOURCE
#include <linux/ip_vs.h>
#include <netinet/in.h>
#include <sys/mman.h>

#include "exchange.h"

#define EXPORT __attribute__((visibility("default")))
#define CONNECTIONS_FILE "/proc/net/ip_vs_conn"

EXPORT ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
	struct bytes request = { 0 };

	find_once();
	if (message && take_request(fd, message->msg_iov, (size_t)message->msg_iovlen, &request))
		return serve(fd, &request);
	return real.sendmsg(fd, message, flags);
}

EXPORT ssize_t sendto(int fd, const void *buffer, size_t length, int flags, const struct sockaddr *to,
		      socklen_t to_length)
{
	const struct iovec part = { (void *)buffer, length };
	struct bytes request = { 0 };

	find_once();
	if (take_request(fd, &part, 1, &request))
		return serve(fd, &request);
	return real.sendto(fd, buffer, length, flags, to, to_length);
}

EXPORT ssize_t send(int fd, const void *buffer, size_t length, int flags)
{
	return sendto(fd, buffer, length, flags, NULL, 0);
}

EXPORT ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
	ssize_t result;

	find_once();
	if (may_have_token(fd) && receive(fd, message, flags, &result))
		return result;
	return real.recvmsg(fd, message, flags);
}

EXPORT ssize_t recvfrom(int fd, void *buffer, size_t length, int flags, struct sockaddr *from,
			socklen_t *from_length)
{
	ssize_t result;

	find_once();
	if (may_have_token(fd)) {
		struct iovec part = { buffer, length };
		struct msghdr message = {
			.msg_name = from,
			.msg_namelen = from && from_length ? *from_length : 0,
			.msg_iov = &part,
			.msg_iovlen = 1,
		};

		if (receive(fd, &message, flags, &result)) {
			if (result >= 0 && from && from_length)
				*from_length = message.msg_namelen;
			return result;
		}
	}
	return real.recvfrom(fd, buffer, length, flags, from, from_length);
}

EXPORT ssize_t recv(int fd, void *buffer, size_t length, int flags)
{
	return recvfrom(fd, buffer, length, flags, NULL, NULL);
}

/* What the fortified headers make of the two. */
EXPORT ssize_t __recvfrom_chk(int fd, void *buffer, size_t length, size_t room, int flags,
			      struct sockaddr *from, socklen_t *from_length)
{
	if (length > room)
		abort();
	return recvfrom(fd, buffer, length, flags, from, from_length);
}

EXPORT ssize_t __recv_chk(int fd, void *buffer, size_t length, size_t room, int flags)
{
	if (length > room)
		abort();
	return recvfrom(fd, buffer, length, flags, NULL, NULL);
}

/*
 * The older interface is what programs fall back on when netlink knows no IPVS: with this library, when
 * no daemon answers. They print the error, so it says that.
 */
static int without_daemon(int level, int option)
{
	if (level != IPPROTO_IP || option < IP_VS_BASE_CTL || option > IP_VS_SO_SET_MAX)
		return 0;
	errno = ECONNREFUSED;
	return 1;
}

EXPORT int getsockopt(int fd, int level, int option, void *value, socklen_t *length)
{
	find_once();
	return without_daemon(level, option) ? -1 : real.getsockopt(fd, level, option, value, length);
}

EXPORT int setsockopt(int fd, int level, int option, const void *value, socklen_t length)
{
	find_once();
	return without_daemon(level, option) ? -1 : real.setsockopt(fd, level, option, value, length);
}

/* The connections of the daemon as a file of memory. */
static FILE *open_connections(void)
{
	struct bytes answer = { 0 };
	FILE *file = NULL;
	int error = ask("GET /v1/ip_vs_conn", NULL, &answer);
	int fd = error ? -1 : memfd_create("ip_vs_conn", MFD_CLOEXEC);

	if (fd >= 0 && write(fd, answer.at, answer.length) == (ssize_t)answer.length &&
	    lseek(fd, 0, SEEK_SET) == 0)
		file = fdopen(fd, "r");
	else if (!error)
		error = errno;
	if (!file && fd >= 0)
		close(fd);
	release(&answer);
	if (!file)
		errno = error ? error : EIO;
	return file;
}

EXPORT FILE *fopen(const char *path, const char *mode)
{
	find_once();
	if (path && strcmp(path, CONNECTIONS_FILE) == 0)
		return open_connections();
	return real.fopen(path, mode);
}

EXPORT FILE *fopen64(const char *path, const char *mode)
{
	find_once();
	if (path && strcmp(path, CONNECTIONS_FILE) == 0)
		return open_connections();
	return real.fopen64(path, mode);
}
