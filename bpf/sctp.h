/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* What a packet of SCTP is for its association: that of its first chunk (RFC 9260 §3). */
#pragma once

#include "host.h"
#include "wire.h"

enum pm_sctp_event {
	PM_SCTP_DATA, /* and all chunks that lead nowhere */
	PM_SCTP_EVENT_INIT,
	PM_SCTP_INIT_ACK,
	PM_SCTP_COOKIE_ECHO,
	PM_SCTP_COOKIE_ACK,
	PM_SCTP_SHUTDOWN,
	PM_SCTP_SHUTDOWN_ACK,
	PM_SCTP_SHUTDOWN_COMPLETE,
	PM_SCTP_ERROR,
	PM_SCTP_ABORT,
	PM_SCTP_EVENTS,
};

/*
 * Where a segment has its flags (pm_packet.tcp_flags), a packet of SCTP has its event, and beside it the bit that
 * TCP has for what begins a connection (SYN) or breaks it off (RST): gates ask for those of either.
 */
#define PM_SCTP_EVENT_SHIFT 4
#define PM_SCTP_NO_CHUNK (15u << PM_SCTP_EVENT_SHIFT | PM_TCP_RST)

/* RFC 9260 §3.2, table 1: four bits for each type of chunk that has an event of its own. */
#define PM_SCTP_OF(type, event) ((__u64)(event) << 4 * (type))
#define PM_SCTP_BY_TYPE                                                                                       \
	(PM_SCTP_OF(1, PM_SCTP_EVENT_INIT) | PM_SCTP_OF(2, PM_SCTP_INIT_ACK) | PM_SCTP_OF(6, PM_SCTP_ABORT) | \
	 PM_SCTP_OF(7, PM_SCTP_SHUTDOWN) | PM_SCTP_OF(8, PM_SCTP_SHUTDOWN_ACK) | PM_SCTP_OF(9, PM_SCTP_ERROR) | \
	 PM_SCTP_OF(10, PM_SCTP_COOKIE_ECHO) | PM_SCTP_OF(11, PM_SCTP_COOKIE_ACK) |                           \
	 PM_SCTP_OF(14, PM_SCTP_SHUTDOWN_COMPLETE))

pm_inline enum pm_sctp_event pm_sctp_event(__u8 type)
{
	return type < 16 ? PM_SCTP_BY_TYPE >> 4 * type & 15 : PM_SCTP_DATA;
}

/* The largest offset of a second chunk that is looked for: a cookie is not longer than a frame. */
#define PM_SCTP_SECOND_MAX 16383u

#define PM_SCTP_UNREACHED 0x100u /* more of the frame is to be brought in reach */

/*
 * Event and bits of the packet whose chunks begin at `off`, in a frame whose IP packet ends at `end`. An ABORT
 * right behind COOKIE ECHO or COOKIE ACK is what counts for states, not for the gates.
 */
PM_PART __u32 pm_sctp_chunks(PM_HOST *host, __u32 off, __u32 end)
{
	struct pm_frame f = pm_frame_open(host);
	const struct pm_sctp_chunk *chunk;
	__u32 event, flags = 0, length;

	if (off + sizeof(*chunk) > end)
		return PM_SCTP_NO_CHUNK;
	chunk = (void *)(f.data + (off & PM_SCTP_SECOND_MAX));
	if (off > PM_SCTP_SECOND_MAX || (__u8 *)(chunk + 1) > f.end)
		return pm_short(&f, PM_CONTINUE) ? PM_SCTP_UNREACHED : PM_SCTP_NO_CHUNK;
	event = pm_sctp_event(chunk->type);
	if (event == PM_SCTP_EVENT_INIT)
		flags = PM_TCP_SYN;
	else if (event == PM_SCTP_ABORT)
		flags = PM_TCP_RST;
	length = pm_ntohs(chunk->length);
	if ((event == PM_SCTP_COOKIE_ECHO || event == PM_SCTP_COOKIE_ACK) && length >= sizeof(*chunk)) {
		off += (length + 3) & ~3u; /* RFC 9260 §3.2: chunks begin at multiples of four */
		if (off + sizeof(*chunk) <= end && off <= PM_SCTP_SECOND_MAX) {
			pm_opaque(off);
			chunk = (void *)(f.data + (off & PM_SCTP_SECOND_MAX));
			if ((__u8 *)(chunk + 1) > f.end)
				return pm_short(&f, PM_CONTINUE) ? PM_SCTP_UNREACHED : event << PM_SCTP_EVENT_SHIFT;
			if (pm_sctp_event(chunk->type) == PM_SCTP_ABORT)
				event = PM_SCTP_ABORT;
		}
	}
	return event << PM_SCTP_EVENT_SHIFT | flags;
}
