/*
 * Talks generic netlink in all the ways that programs may: `client WORD...` does each and prints a line.
 *
 *     family NAME   asks the controller for a family:  its number, or the error
 *     list          all services, by poll:             how many, in how many datagrams
 *     select, epoll the same, waited for otherwise
 *     fork          asks in the parent, reads in a child
 *     mixed         a question to the kernel and one to IPVS at once: in which order answers came
 *     flood         many questions, and no answer read
 *     line          waits for a line on standard input
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/genetlink.h>
#include <linux/netlink.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { FAMILY = 0x4950, GET_SERVICE = 4, GET_INFO = 15, FLOOD = 100 };

static int open_socket(void)
{
	const int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC);
	struct sockaddr_nl address = { .nl_family = AF_NETLINK };

	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		abort();
	return fd;
}

static void request(int fd, int type, int flags, int command, const char *name)
{
	struct {
		struct nlmsghdr header;
		struct genlmsghdr generic;
		struct nlattr attribute;
		char name[GENL_NAMSIZ];
	} message = { 0 };
	const struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };

	message.header.nlmsg_len = NLMSG_HDRLEN + GENL_HDRLEN;
	message.header.nlmsg_type = (uint16_t)type;
	message.header.nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
	message.header.nlmsg_seq = 5;
	message.generic.cmd = (uint8_t)command;
	message.generic.version = 1;
	if (name) {
		message.attribute.nla_type = CTRL_ATTR_FAMILY_NAME;
		message.attribute.nla_len = (uint16_t)(NLA_HDRLEN + strlen(name) + 1);
		strcpy(message.name, name);
		message.header.nlmsg_len += NLA_ALIGN(message.attribute.nla_len);
	}
	if (sendto(fd, &message, message.header.nlmsg_len, 0, (const struct sockaddr *)&kernel, sizeof(kernel)) < 0)
		printf("cannot send: %s\n", strerror(errno));
}

/* One datagram; its size is asked for first, as libnl does. */
static ssize_t receive(int fd, char *buffer, size_t room)
{
	struct sockaddr_nl from = { 0 };
	struct iovec part = { buffer, 1 };
	struct msghdr message = { .msg_name = &from, .msg_namelen = sizeof(from), .msg_iov = &part, .msg_iovlen = 1 };
	const ssize_t size = recvmsg(fd, &message, MSG_PEEK | MSG_TRUNC);

	if (size < 0)
		return -1;
	if ((size_t)size > room || !(message.msg_flags & MSG_TRUNC))
		abort();
	part.iov_len = (size_t)size;
	message.msg_namelen = sizeof(from);
	if (recvmsg(fd, &message, 0) != size || from.nl_family != AF_NETLINK || from.nl_pid != 0)
		abort();
	return size;
}

static int error_in(const char *datagram)
{
	return ((const struct nlmsgerr *)(datagram + NLMSG_HDRLEN))->error;
}

static void family(const char *name)
{
	static char buffer[65536];
	const int fd = open_socket();

	request(fd, GENL_ID_CTRL, 0, CTRL_CMD_GETFAMILY, name);
	receive(fd, buffer, sizeof(buffer));
	if (((struct nlmsghdr *)buffer)->nlmsg_type == NLMSG_ERROR)
		printf("%s: error %d\n", name, -error_in(buffer));
	else
		printf("%s: found\n", name);
	close(fd);
}

static void wait_readable(int fd, const char *way)
{
	if (strcmp(way, "select") == 0) {
		fd_set set;

		FD_ZERO(&set);
		FD_SET(fd, &set);
		if (select(fd + 1, &set, NULL, NULL, NULL) != 1)
			abort();
	} else if (strcmp(way, "epoll") == 0) {
		struct epoll_event event = { .events = EPOLLIN };
		const int poll_fd = epoll_create1(EPOLL_CLOEXEC);

		epoll_ctl(poll_fd, EPOLL_CTL_ADD, fd, &event);
		if (epoll_wait(poll_fd, &event, 1, -1) != 1)
			abort();
		close(poll_fd);
	} else {
		struct pollfd entry = { .fd = fd, .events = POLLIN };

		if (poll(&entry, 1, -1) != 1)
			abort();
	}
}

static void count_services(int fd, const char *way)
{
	static char buffer[65536];
	int services = 0, datagrams = 0, done = 0;

	while (!done) {
		ssize_t length;

		wait_readable(fd, way);
		length = receive(fd, buffer, sizeof(buffer));
		datagrams++;
		for (char *at = buffer; at < buffer + length && !done;
		     at += NLMSG_ALIGN(((struct nlmsghdr *)at)->nlmsg_len)) {
			const struct nlmsghdr *header = (struct nlmsghdr *)at;

			if (header->nlmsg_type == NLMSG_ERROR) {
				printf("%s: error %d\n", way, -error_in(at));
				return;
			}
			services += header->nlmsg_type == FAMILY;
			done = header->nlmsg_type == NLMSG_DONE;
		}
	}
	if (recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT) >= 0 || errno != EAGAIN)
		abort();
	printf("%s: %d services in %s\n", way, services, datagrams > 1 ? "many datagrams" : "one datagram");
}

static void list(const char *way)
{
	const int fd = open_socket();

	request(fd, FAMILY, NLM_F_DUMP, GET_SERVICE, NULL);
	count_services(fd, way);
	close(fd);
}

static void list_in_child(void)
{
	const int fd = open_socket();
	pid_t child;

	request(fd, FAMILY, NLM_F_DUMP, GET_SERVICE, NULL);
	fflush(stdout);
	child = fork();
	if (child == 0) {
		count_services(fd, "fork");
		fflush(stdout);
		_exit(0);
	}
	waitpid(child, NULL, 0);
	close(fd);
}

static void mixed(void)
{
	static char buffer[65536];
	const int fd = open_socket();

	request(fd, GENL_ID_CTRL, 0, CTRL_CMD_GETFAMILY, "nlctrl");
	request(fd, FAMILY, 0, GET_INFO, NULL);
	request(fd, GENL_ID_CTRL, 0, CTRL_CMD_GETFAMILY, "nothing");
	printf("mixed:");
	for (int i = 0; i < 3; i++) {
		receive(fd, buffer, sizeof(buffer));
		switch (((struct nlmsghdr *)buffer)->nlmsg_type) {
		case FAMILY: printf(" ipvs"); break;
		case GENL_ID_CTRL: printf(" kernel"); break;
		case NLMSG_ERROR: printf(" error %d", -error_in(buffer)); break;
		default: printf(" strange");
		}
	}
	printf("\n");
	close(fd);
}

static void flood(void)
{
	static char buffer[65536];
	const int fd = open_socket();
	int read = 0;

	for (int i = 0; i < FLOOD; i++)
		request(fd, FAMILY, 0, GET_INFO, NULL);
	/* The answers that were not given up are there, and then there is nothing. */
	while (recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT) > 0)
		read += ((struct nlmsghdr *)buffer)->nlmsg_type == FAMILY;
	printf("flood: %s\n", read > 0 && read < FLOOD && errno == EAGAIN ? "some, and an end" : "strange");
	close(fd);
}

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "family") == 0)
			family(argv[++i]);
		else if (strcmp(argv[i], "fork") == 0)
			list_in_child();
		else if (strcmp(argv[i], "mixed") == 0)
			mixed();
		else if (strcmp(argv[i], "flood") == 0)
			flood();
		else if (strcmp(argv[i], "line") == 0)
			getchar();
		else
			list(argv[i]);
		fflush(stdout);
	}
	return 0;
}
