/* Netlink messages: which are ours, and where datagrams of an answer end. */
#ifndef POINTSMAN_PRELOAD_MESSAGE_H
#define POINTSMAN_PRELOAD_MESSAGE_H

#include <linux/genetlink.h>
#include <linux/netlink.h>

#include "bytes.h"
#include "real.h"

#define FAMILY_NAME "IPVS"

/* control/front/netlink/family.ts; the kernel's families end at 1023. */
enum { FAMILY = 0x4950 };
/* Clients of the kernel read datagrams of this size without being asked twice. */
enum { DATAGRAM_MAX = 8192 };

static int is_generic_netlink(int fd)
{
	socklen_t length = sizeof(int);
	int domain, protocol;

	if (real.getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length) < 0 || domain != AF_NETLINK)
		return 0;
	length = sizeof(int);
	return real.getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &length) == 0 &&
	       protocol == NETLINK_GENERIC;
}

/* Whether the controller is asked for the family IPVS, by its name. */
static int asks_for_family(const unsigned char *message, size_t length)
{
	size_t at = NLMSG_HDRLEN + GENL_HDRLEN;

	if (length < at || message[NLMSG_HDRLEN] != CTRL_CMD_GETFAMILY)
		return 0;
	while (at + NLA_HDRLEN <= length) {
		struct nlattr attribute;

		memcpy(&attribute, message + at, sizeof(attribute));
		if (attribute.nla_len < NLA_HDRLEN || at + attribute.nla_len > length)
			return 0;
		if ((attribute.nla_type & NLA_TYPE_MASK) == CTRL_ATTR_FAMILY_NAME)
			return attribute.nla_len == NLA_HDRLEN + sizeof(FAMILY_NAME) &&
			       memcmp(message + at + NLA_HDRLEN, FAMILY_NAME, sizeof(FAMILY_NAME)) == 0;
		at += NLA_ALIGN(attribute.nla_len);
	}
	return 0;
}

static int is_ours(const unsigned char *datagram, size_t length)
{
	struct nlmsghdr header;

	if (length < NLMSG_HDRLEN + GENL_HDRLEN)
		return 0;
	memcpy(&header, datagram, sizeof(header));
	if (header.nlmsg_len < NLMSG_HDRLEN + GENL_HDRLEN || header.nlmsg_len > length)
		return 0;
	return header.nlmsg_type == FAMILY ||
	       (header.nlmsg_type == GENL_ID_CTRL && asks_for_family(datagram, header.nlmsg_len));
}

/* Whether an answer is messages from its beginning to its end: a client waits for ever for the rest. */
static int is_messages(const struct bytes *bytes)
{
	size_t at = 0;

	while (at + NLMSG_HDRLEN <= bytes->length) {
		struct nlmsghdr header;

		memcpy(&header, bytes->at + at, sizeof(header));
		/* Compared first: rounded up, the largest length is none. */
		if (header.nlmsg_len < NLMSG_HDRLEN || header.nlmsg_len > bytes->length - at ||
		    NLMSG_ALIGN(header.nlmsg_len) > bytes->length - at)
			return 0;
		at += NLMSG_ALIGN(header.nlmsg_len);
	}
	return at == bytes->length;
}

/* The end of the datagram that begins at `from`: as many parts of a listing as fit, or one message. */
static size_t datagram_end(const struct bytes *messages, size_t from)
{
	size_t at = from;

	while (at + NLMSG_HDRLEN <= messages->length) {
		struct nlmsghdr header;
		size_t end;

		memcpy(&header, messages->at + at, sizeof(header));
		end = at + NLMSG_ALIGN(header.nlmsg_len);
		if (at > from && end - from > DATAGRAM_MAX)
			return at;
		at = end;
		if (!(header.nlmsg_flags & NLM_F_MULTI))
			return at;
	}
	return messages->length;
}

/* An error as the kernel would answer the request with. */
static int append_error(struct bytes *messages, const struct bytes *request, int error)
{
	struct {
		struct nlmsghdr header;
		struct nlmsgerr error;
	} message = { 0 };

	memcpy(&message.error.msg, request->at, sizeof(message.error.msg));
	message.header.nlmsg_len = sizeof(message);
	message.header.nlmsg_type = NLMSG_ERROR;
	message.header.nlmsg_flags = NLM_F_CAPPED;
	message.header.nlmsg_seq = message.error.msg.nlmsg_seq;
	message.header.nlmsg_pid = message.error.msg.nlmsg_pid;
	message.error.error = -error;
	return append(messages, &message, sizeof(message));
}

#endif
