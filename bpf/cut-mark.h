/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Frames that XDP leaves to a program of traffic control beside it, since they are larger than their path: one frame
 * of one is all that XDP can make. They go the way of all frames of the stack, with this before them.
 */
#pragma once

#include "host.h"

#define PM_CUT_MAGIC 0x7475636du

struct pm_cut_mark {
	__u32 magic;
	__u32 line;  /* of pm_uncut */
	__u32 nonce; /* the stack merges packets whose marks are the same */
};

#ifdef PM_SKB
/* The line in the frame's mark; 0: it has one. */
pm_inline int pm_take_mark(struct __sk_buff *skb, __u32 *line)
{
	struct pm_cut_mark *m = (void *)(long)skb->data_meta;

	if ((__u8 *)(m + 1) > (__u8 *)(long)skb->data || m->magic != PM_CUT_MAGIC)
		return -1;
	*line = m->line;
	/* It stays before the packet, and at the other end of a veth there may be a director, too. */
	m->magic = 0;
	return 0;
}
#else
/* Non-zero where the driver has no room for it, or no such way to the stack. */
PM_PART int pm_leave_mark(struct xdp_md *ctx, __u32 line)
{
	struct pm_cut_mark *m;

	if (bpf_xdp_adjust_meta(ctx, -(int)sizeof(*m)))
		return -1;
	m = (void *)(long)ctx->data_meta;
	if ((__u8 *)(m + 1) > (__u8 *)(long)ctx->data)
		return -1;
	m->magic = PM_CUT_MAGIC;
	m->line = line;
	m->nonce = bpf_get_prandom_u32();
	return 0;
}
#endif
