/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* States of connections, whatever their protocol. UDP has one only. */
#pragma once

#include "sctp-state.h"

/* What a packet leads to from a state. */
pm_inline __u8 pm_next_state(const struct pm_settings *set, __u8 protocol, enum pm_direction dir, __u8 flags,
			     __u8 state)
{
	if (protocol == PM_PROTO_TCP)
		return pm_tcp_next(!!(set->flags & PM_SETTING_SECURE_TCP), dir, flags, state);
	return pm_unlikely(protocol == PM_PROTO_SCTP) ? pm_sctp_next(dir, flags, state) : state;
}

/* Ticks that a connection stays in a state without packets. */
pm_inline __u32 pm_timeout_of(const struct pm_settings *set, __u8 protocol, __u8 state)
{
	if (pm_unlikely(protocol == PM_PROTO_SCTP))
		return pm_sctp_timeout(state);
	return set->timeouts[protocol == PM_PROTO_TCP ? state & (PM_TIMEOUTS - 1) : PM_TIMEOUT_UDP];
}

pm_inline int pm_is_established(__u8 protocol, __u8 state)
{
	return protocol == PM_PROTO_TCP	 ? state == PM_TCP_ESTABLISHED :
	       protocol == PM_PROTO_SCTP ? state == PM_SCTP_ESTABLISHED :
					   0;
}

/* Counted in ActiveConn. */
pm_inline int pm_is_active(__u8 protocol, __u8 state)
{
	return pm_is_established(protocol, state) ||
	       (protocol == PM_PROTO_TCP &&
		(state == PM_TCP_SYN_SENT || state == PM_TCP_SYN_RECV || state == PM_TCP_SYNACK));
}

/* Packets of conversations that go on, and of datagrams: they leave the state as it is. */
pm_inline int pm_is_quiet(__u8 protocol, __u8 flags, __u8 state)
{
	if (protocol == PM_PROTO_TCP)
		return state == PM_TCP_ESTABLISHED &&
		       (flags & (PM_TCP_RST | PM_TCP_SYN | PM_TCP_FIN | PM_TCP_ACK)) == PM_TCP_ACK;
	return pm_likely(protocol != PM_PROTO_SCTP) ||
	       (state == PM_SCTP_ESTABLISHED && flags == PM_SCTP_DATA << PM_SCTP_EVENT_SHIFT);
}

/* Whether the two ends have not agreed to a connection yet. */
pm_inline int pm_is_half_open(__u8 protocol, __u8 state)
{
	if (protocol == PM_PROTO_SCTP)
		return state < PM_SCTP_ESTABLISHED;
	return protocol == PM_PROTO_TCP && (state == PM_TCP_NONE || state == PM_TCP_SYN_SENT ||
					    state == PM_TCP_SYN_RECV || state == PM_TCP_SYNACK);
}

/* A closing state out of which nothing more is expected of either side. `one_sided`: answers are never seen. */
pm_inline int pm_is_ended(__u8 protocol, __u8 state, int one_sided)
{
	if (protocol == PM_PROTO_SCTP)
		return state >= PM_SCTP_S_ACK_SENT || (state > PM_SCTP_ESTABLISHED && one_sided);
	return protocol == PM_PROTO_TCP &&
	       (state == PM_TCP_TIME_WAIT || state == PM_TCP_CLOSE || state == PM_TCP_LAST_ACK ||
		(state == PM_TCP_FIN_WAIT && one_sided));
}

/* dataplane.md §2.1: whether what would begin a connection begins another one by the same ports. */
pm_inline int pm_is_reusable(__u8 protocol, __u8 state, int one_sided, __u32 mode)
{
	if (!mode)
		return 0;
	if (protocol == PM_PROTO_SCTP)
		return state == PM_SCTP_CLOSED;
	return state == PM_TCP_TIME_WAIT || state == PM_TCP_CLOSE ||
	       ((mode & 2) && state == PM_TCP_FIN_WAIT && one_sided);
}
