/* Answers until they are read, and the tokens that hold their places on sockets. */
#ifndef POINTSMAN_PRELOAD_ANSWERS_H
#define POINTSMAN_PRELOAD_ANSWERS_H

#include <stdint.h>

#include "message.h"

/* Answers that nobody came for are forgotten. */
enum { ANSWERS_MAX = 16 };

/* "pm" in the port of a token's message, which the kernel gives back as it came. */
#define TOKEN_MARK 0x706d0000u

struct answer {
	uint32_t number; /* of its token; 0: none */
	struct bytes messages;
	size_t taken;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct answer answers[ANSWERS_MAX];
static uint32_t number_last;
/* Looked at without the lock: whether a datagram could be a token at all. */
static int answers_waiting;

static void take_lock(void) { pthread_mutex_lock(&lock); }
static void give_lock(void) { pthread_mutex_unlock(&lock); }

/* A child that another thread's lock was copied into would wait for ever. */
__attribute__((constructor)) static void keep_lock_over_fork(void)
{
	pthread_atfork(take_lock, give_lock, give_lock);
}

static int send_token(int fd, uint32_t number)
{
	const struct nlmsghdr token = {
		.nlmsg_len = NLMSG_HDRLEN,
		.nlmsg_type = NLMSG_NOOP,
		.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK,
		.nlmsg_seq = number,
		.nlmsg_pid = TOKEN_MARK,
	};
	const struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };

	for (;;) {
		if (real.sendto(fd, &token, sizeof(token), 0, (const struct sockaddr *)&kernel, sizeof(kernel)) >= 0)
			return 0;
		if (errno != EINTR)
			return errno;
	}
}

/* The number of the token that a datagram is; 0: none. */
static uint32_t token_in(const unsigned char *datagram, size_t length)
{
	struct nlmsghdr header;
	struct nlmsgerr error;

	if (length < NLMSG_HDRLEN + sizeof(error))
		return 0;
	memcpy(&header, datagram, sizeof(header));
	memcpy(&error, datagram + NLMSG_HDRLEN, sizeof(error));
	return header.nlmsg_type == NLMSG_ERROR && error.msg.nlmsg_type == NLMSG_NOOP &&
			       error.msg.nlmsg_pid == TOKEN_MARK
		? error.msg.nlmsg_seq
		: 0;
}

static struct answer *find_answer(uint32_t number)
{
	for (int i = 0; i < ANSWERS_MAX; i++)
		if (number && answers[i].number == number)
			return &answers[i];
	return NULL;
}

static void forget(struct answer *answer)
{
	release(&answer->messages);
	answer->number = 0;
	answer->taken = 0;
	__atomic_sub_fetch(&answers_waiting, 1, __ATOMIC_RELAXED);
}

/* Keeps an answer until it is read; where there is no place, the oldest gives way. */
static uint32_t keep(struct bytes *messages)
{
	struct answer *place = &answers[0];
	uint32_t number;

	take_lock();
	for (int i = 0; i < ANSWERS_MAX; i++)
		if (answers[i].number < place->number)
			place = &answers[i];
	if (place->number)
		forget(place);
	number = ++number_last ? number_last : ++number_last;
	place->number = number;
	place->messages = *messages;
	__atomic_add_fetch(&answers_waiting, 1, __ATOMIC_RELAXED);
	give_lock();
	memset(messages, 0, sizeof(*messages));
	return number;
}

#endif
