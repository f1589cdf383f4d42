/* A request in place of the kernel's: to the daemon with it, and its answer onto the socket. */
#ifndef POINTSMAN_PRELOAD_EXCHANGE_H
#define POINTSMAN_PRELOAD_EXCHANGE_H

#include "answers.h"
#include "daemon.h"

/* Carries a request to the daemon. Returns what send returns. */
static ssize_t serve(int fd, struct bytes *request)
{
	const ssize_t sent = (ssize_t)request->length;
	struct bytes messages = { 0 };
	uint32_t number;
	int error = ask("POST /v1/netlink", request, &messages);

	if (!error && !is_messages(&messages))
		error = EPROTO;
	if (error) {
		messages.length = 0;
		/* To a controller that is asked for a family, no daemon is no IPVS. */
		if (((struct nlmsghdr *)request->at)->nlmsg_type == GENL_ID_CTRL)
			error = ENOENT;
		error = append_error(&messages, request, error);
	}
	if (!error && messages.length > 0) {
		number = keep(&messages);
		error = send_token(fd, number);
	}
	release(&messages);
	release(request);
	if (!error)
		return sent;
	errno = error;
	return -1;
}

/* The datagram a caller sends, in one piece, if it is ours. */
static int take_request(int fd, const struct iovec *parts, size_t count, struct bytes *request)
{
	const int saved = errno;
	int ours;

	/* The header is in the first part with every library there is. */
	if (count == 0 || parts[0].iov_len < NLMSG_HDRLEN || !parts[0].iov_base)
		return 0;
	{
		struct nlmsghdr header;

		memcpy(&header, parts[0].iov_base, sizeof(header));
		if (header.nlmsg_type != FAMILY && header.nlmsg_type != GENL_ID_CTRL)
			return 0;
	}
	if (!is_generic_netlink(fd)) {
		errno = saved;
		return 0;
	}
	for (size_t i = 0; i < count; i++)
		if (append(request, parts[i].iov_base, parts[i].iov_len)) {
			release(request);
			return 0;
		}
	ours = is_ours(request->at, request->length);
	if (!ours)
		release(request);
	errno = saved;
	return ours;
}

/* Hands out the datagram `from` to `end` of an answer; the length as recvmsg returns it. */
static ssize_t hand_out(struct msghdr *message, int flags, const unsigned char *datagram, size_t length)
{
	const struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
	size_t given = 0;

	for (size_t i = 0; i < (size_t)message->msg_iovlen && given < length; i++) {
		const size_t part = message->msg_iov[i].iov_len < length - given ? message->msg_iov[i].iov_len
										 : length - given;

		if (part)
			memcpy(message->msg_iov[i].iov_base, datagram + given, part);
		given += part;
	}
	if (message->msg_name && message->msg_namelen > 0) {
		const size_t room = message->msg_namelen < sizeof(kernel) ? message->msg_namelen : sizeof(kernel);

		memcpy(message->msg_name, &kernel, room);
	}
	message->msg_namelen = message->msg_name ? sizeof(kernel) : 0;
	message->msg_controllen = 0;
	message->msg_flags = given < length ? MSG_TRUNC : 0;
	return (ssize_t)(flags & MSG_TRUNC ? length : given);
}

static int may_have_token(int fd)
{
	const int saved = errno;
	const int may = __atomic_load_n(&answers_waiting, __ATOMIC_RELAXED) > 0 && is_generic_netlink(fd);

	errno = saved;
	return may;
}

/* Takes the token off the socket: it is the first thing there, as somebody has just looked. */
static void drop_token(int fd)
{
	unsigned char token[NLMSG_HDRLEN + sizeof(struct nlmsgerr)];
	const int saved = errno;

	(void)real.recvfrom(fd, token, sizeof(token), MSG_DONTWAIT, NULL, NULL);
	errno = saved;
}

/* Returns 1 and the result if the next datagram was ours, else 0. */
static int receive(int fd, struct msghdr *message, int flags, ssize_t *result)
{
	for (;;) {
		unsigned char head[NLMSG_HDRLEN + sizeof(struct nlmsgerr)];
		const int waiting = flags & MSG_DONTWAIT;
		const ssize_t length = real.recvfrom(fd, head, sizeof(head), MSG_PEEK | waiting, NULL, NULL);
		struct answer *answer;
		uint32_t number;
		size_t end;

		if (length < 0) {
			*result = -1;
			return 1;
		}
		number = token_in(head, (size_t)length);
		if (!number)
			return 0;
		take_lock();
		answer = find_answer(number);
		if (!answer) {
			/* Forgotten, or its process was another one. */
			give_lock();
			drop_token(fd);
			continue;
		}
		end = datagram_end(&answer->messages, answer->taken);
		*result = hand_out(message, flags, answer->messages.at + answer->taken, end - answer->taken);
		if (!(flags & MSG_PEEK)) {
			const int saved = errno;

			answer->taken = end;
			drop_token(fd);
			if (end >= answer->messages.length || send_token(fd, number))
				forget(answer);
			errno = saved;
		}
		give_lock();
		return 1;
	}
}

#endif
