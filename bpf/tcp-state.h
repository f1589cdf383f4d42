/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* TCP states as IPVS sees them: which packet leads where. */
#pragma once

#include "host.h"
#include "wire.h"

enum pm_tcp_event {
	PM_EVENT_SYN,
	PM_EVENT_FIN,
	PM_EVENT_ACK,
	PM_EVENT_RST,
	PM_EVENT_NONE, /* none of the four flags: the connection is closed */
};

enum pm_direction {
	PM_DIR_IN,
	PM_DIR_OUT,
	PM_DIR_IN_ONLY, /* the real server's side is never seen (DR, TUN) */
};

#define PM_STATE_ROW 16 /* states per row, a power of two: the index needs no test */
#define PM_STATE_EVENTS 4
#define PM_STATE_DIRECTIONS 4 /* three, and room to a power of two */

#define NO PM_TCP_NONE
#define ES PM_TCP_ESTABLISHED
#define SS PM_TCP_SYN_SENT
#define SR PM_TCP_SYN_RECV
#define FW PM_TCP_FIN_WAIT
#define TW PM_TCP_TIME_WAIT
#define CL PM_TCP_CLOSE
#define CW PM_TCP_CLOSE_WAIT
#define LA PM_TCP_LAST_ACK
#define LI PM_TCP_LISTEN
#define SA PM_TCP_SYNACK

/* Observed on Linux 6.1, cell by cell. Columns in the order of enum pm_tcp_state. */
static const __u8 pm_tcp_table[2][PM_STATE_DIRECTIONS][PM_STATE_EVENTS][PM_STATE_ROW] = {
	{
		/*        NO  ES  SS  SR  FW  TW  CL  CW  LA  LI  SA */
		{
			{ SR, ES, ES, SR, SR, SR, SR, SR, SR, SR, SR }, /* in syn */
			{ CL, CW, SS, TW, TW, TW, CL, CW, LA, LI, TW }, /* in fin */
			{ ES, ES, SS, ES, FW, TW, CL, CW, CL, LI, ES }, /* in ack */
			{ CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, SR }, /* in rst */
		},
		{
			{ SS, ES, SS, SR, SS, SS, SS, SS, SS, LI, SR }, /* out syn */
			{ TW, FW, SS, TW, FW, TW, CL, TW, LA, LI, TW }, /* out fin */
			{ ES, ES, SS, ES, FW, TW, CL, CW, LA, ES, ES }, /* out ack */
			{ CL, CL, SS, CL, CL, TW, CL, CL, CL, CL, CL }, /* out rst */
		},
		{
			{ SR, ES, ES, SR, SR, SR, SR, SR, SR, SR, SR }, /* in-only syn */
			{ CL, FW, SS, TW, FW, TW, CL, CW, LA, LI, TW }, /* in-only fin */
			{ ES, ES, SS, ES, FW, TW, CL, CW, CL, LI, ES }, /* in-only ack */
			{ CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, CL }, /* in-only rst */
		},
	},
	/* secure_tcp: an ACK of the client alone establishes nothing. */
	{
		{
			{ SR, ES, ES, SR, SR, SR, SR, SR, SR, SR, SA },
			{ CL, CW, SS, TW, TW, TW, CL, CW, LA, LI, SA },
			{ ES, ES, SS, SR, FW, TW, CL, CW, CL, LI, SA },
			{ CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, CL },
		},
		{
			{ SS, ES, SS, SA, SS, SS, SS, SS, SS, LI, SA },
			{ TW, FW, SS, TW, FW, TW, CL, TW, LA, LI, TW },
			{ ES, ES, SS, ES, FW, TW, CL, CW, LA, ES, ES },
			{ CL, CL, SS, CL, CL, TW, CL, CL, CL, CL, CL },
		},
		{
			{ SA, ES, ES, SR, SA, SA, SA, SA, SA, SA, SA },
			{ CL, FW, SS, TW, FW, TW, CL, CW, LA, LI, TW },
			{ ES, ES, SS, ES, FW, TW, CL, CW, CL, LI, ES },
			{ CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, CL },
		},
	},
};

#undef NO
#undef ES
#undef SS
#undef SR
#undef FW
#undef TW
#undef CL
#undef CW
#undef LA
#undef LI
#undef SA

/* A segment counts by the first of RST, SYN, FIN, ACK that it carries. */
pm_inline enum pm_tcp_event pm_tcp_event(__u8 flags)
{
	if (flags & PM_TCP_RST)
		return PM_EVENT_RST;
	if (flags & PM_TCP_SYN)
		return PM_EVENT_SYN;
	if (flags & PM_TCP_FIN)
		return PM_EVENT_FIN;
	if (flags & PM_TCP_ACK)
		return PM_EVENT_ACK;
	return PM_EVENT_NONE;
}

pm_inline __u8 pm_tcp_next(int secure, enum pm_direction dir, __u8 flags, __u8 state)
{
	enum pm_tcp_event event = pm_tcp_event(flags);
	__u32 row;

	if (event == PM_EVENT_NONE)
		return PM_TCP_CLOSE;
	row = ((secure & 1) * PM_STATE_DIRECTIONS + (dir & 3)) * PM_STATE_EVENTS + (event & 3);
	row = row * PM_STATE_ROW + (state & (PM_STATE_ROW - 1));
	/* The verifier loses the bound through the products, and the compiler drops a mask it can prove. */
	pm_opaque(row);
	return ((const __u8 *)pm_tcp_table)[row & (sizeof(pm_tcp_table) - 1)];
}
