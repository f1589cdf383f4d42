/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* SCTP associations as IPVS sees them: which chunk leads where, and how long it stays there. */
#pragma once

#include "tcp-state.h"
#include "sctp.h"

/* PM_DIR_IN, PM_DIR_OUT, PM_DIR_IN_ONLY, and room to a power of two. */
#define PM_SCTP_DIRECTIONS 4
#define PM_SCTP_ROWS 16

#define NO PM_SCTP_NONE
#define I1 PM_SCTP_INIT1
#define IN PM_SCTP_INIT
#define CS PM_SCTP_C_SENT
#define CR PM_SCTP_C_REPLIED
#define CW PM_SCTP_C_WAIT
#define CO PM_SCTP_COOKIE
#define CE PM_SCTP_C_ECHOED
#define ES PM_SCTP_ESTABLISHED
#define SS PM_SCTP_S_SENT
#define SR PM_SCTP_S_RECEIVED
#define SA PM_SCTP_S_ACK_SENT
#define RJ PM_SCTP_REJECTED
#define CL PM_SCTP_CLOSED

/* Observed on Linux 6.1, cell by cell. Columns in the order of enum pm_sctp_state, rows of enum pm_sctp_event. */
static const __u8 pm_sctp_table[PM_SCTP_DIRECTIONS][PM_SCTP_ROWS][PM_STATE_ROW] = {
	{
		/*NO  I1  IN  CS  CR  CW  CO  CE  ES  SS  SR  SA  RJ  CL   in */
		{ ES, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL }, /* data */
		{ I1, IN, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, IN, IN }, /* init */
		{ CW, CW, CW, CS, CR, CO, CO, CE, ES, SS, SR, SA, RJ, CL }, /* init_ack */
		{ CR, IN, IN, CR, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL }, /* cookie_echo */
		{ ES, I1, IN, CS, CR, CW, CO, ES, ES, SS, SR, SA, RJ, CL }, /* cookie_ack */
		{ SR, I1, IN, CS, CR, CW, CO, CE, SR, SS, SR, SA, RJ, CL }, /* shutdown */
		{ CL, IN, IN, CS, CR, CW, CO, CE, ES, CL, SR, CL, RJ, CL }, /* shutdown_ack */
		{ CL, CL, CL, CS, CR, CW, CO, CE, ES, SS, SR, CL, RJ, CL }, /* shutdown_complete */
		{ CL, I1, IN, CS, CR, CW, CO, CL, ES, SS, SR, SA, RJ, CL }, /* error */
		{ CL, CL, CL, CL, CL, RJ, CL, CL, CL, CL, CL, CL, CL, CL }, /* abort */
	},
	{
		/*NO  I1  IN  CS  CR  CW  CO  CE  ES  SS  SR  SA  RJ  CL   out */
		{ ES, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL }, /* data */
		{ CW, CW, CW, CW, CW, CW, CW, CW, ES, CW, CW, CW, CW, CW }, /* init */
		{ CS, CS, CS, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL }, /* init_ack */
		{ CE, CE, CE, CE, CE, CE, CE, CE, ES, SS, SR, SA, RJ, CL }, /* cookie_echo */
		{ ES, ES, ES, ES, ES, ES, ES, ES, ES, SS, SR, SA, RJ, CL }, /* cookie_ack */
		{ SS, SS, SS, SS, SS, SS, SS, SS, SS, SS, SR, SA, RJ, CL }, /* shutdown */
		{ SA, SA, SA, SA, SA, CW, CO, CE, ES, SA, SA, SA, RJ, CL }, /* shutdown_ack */
		{ CL, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL }, /* shutdown_complete */
		{ CL, CL, CL, CL, CL, CW, CO, CE, ES, SS, SR, SA, RJ, CL }, /* error */
		{ CL, RJ, CL, CL, CL, CL, CL, CL, CL, CL, CL, CL, CL, CL }, /* abort */
	},
	{
		/*NO  I1  IN  CS  CR  CW  CO  CE  ES  SS  SR  SA  RJ  CL   in, the answers are not seen */
		{ ES, I1, IN, CS, CR, ES, CO, CE, ES, SS, SR, SA, RJ, CL }, /* data */
		{ I1, IN, IN, IN, IN, IN, CO, CE, ES, SS, SR, SA, IN, IN }, /* init */
		{ CE, CE, CE, CE, CE, CE, CO, CE, ES, SS, SR, SA, RJ, CL }, /* init_ack */
		{ ES, ES, ES, ES, ES, ES, CO, CE, ES, SS, SR, SA, RJ, CL }, /* cookie_echo */
		{ ES, I1, IN, ES, ES, CW, ES, ES, ES, SS, SR, SA, RJ, CL }, /* cookie_ack */
		{ SR, I1, IN, CS, CR, CW, CO, CE, SR, SS, SR, SA, RJ, CL }, /* shutdown */
		{ CL, IN, IN, CS, CR, CW, CO, CE, CL, CL, SR, CL, RJ, CL }, /* shutdown_ack */
		{ CL, CL, CL, CL, CL, CW, CO, CE, ES, SS, CL, CL, RJ, CL }, /* shutdown_complete */
		{ CL, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL }, /* error */
		{ CL, CL, CL, CL, CL, RJ, CL, CL, CL, CL, CL, CL, CL, CL }, /* abort */
	},
};

#undef NO
#undef I1
#undef IN
#undef CS
#undef CR
#undef CW
#undef CO
#undef CE
#undef ES
#undef SS
#undef SR
#undef SA
#undef RJ
#undef CL

/* What a packet makes of a state; one without a whole chunk nothing. */
pm_inline __u8 pm_sctp_next(enum pm_direction dir, __u8 flags, __u8 state)
{
	__u32 event = flags >> PM_SCTP_EVENT_SHIFT, cell;

	if (event >= PM_SCTP_EVENTS)
		return state;
	cell = ((dir & 3) * PM_SCTP_ROWS + event) * PM_STATE_ROW + (state & (PM_STATE_ROW - 1));
	/* The verifier loses the bound through the products, and the compiler drops a mask it can prove. */
	pm_opaque(cell);
	return ((const __u8 *)pm_sctp_table)[cell & (sizeof(pm_sctp_table) - 1)];
}

/* Nothing changes these: `ipvsadm --set` knows TCP and UDP only. In ticks. */
#define PM_SCTP_SHORT 238u	    /* 2 s */
#define PM_SCTP_FIRST 477u	    /* 4 s */
#define PM_SCTP_HANDSHAKE 7272u	    /* 61 s, also of the end */
#define PM_SCTP_CONVERSATION 107288u /* 900 s */

pm_inline __u32 pm_sctp_timeout(__u8 state)
{
	switch (state) {
	case PM_SCTP_NONE:
		return PM_SCTP_SHORT;
	case PM_SCTP_INIT1:
	case PM_SCTP_REJECTED:
		return PM_SCTP_FIRST;
	case PM_SCTP_ESTABLISHED:
		return PM_SCTP_CONVERSATION;
	default:
		return PM_SCTP_HANDSHAKE;
	}
}
