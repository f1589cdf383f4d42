/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* A packet of the kernel's stack through the program, and what becomes of it. */
#pragma once

#include "process.h"
#include "cut.h"
#include "record.h"

/* One run of the program, with the first `reach` bytes where it sees them. */
pm_inline __u64 pm_skb_run(struct __sk_buff *skb, __u32 reach)
{
	if (pm_skb_reach(skb, reach))
		return PM_DROP_HEADROOM;
	return pm_process(skb);
}

/* What traffic control is to do with it; `flags` and `line`: what is known of an earlier run (host-skb.h). */
pm_inline int pm_skb_take(struct __sk_buff *skb, __u32 flags, __u32 line)
{
	__u64 result;
	__u32 ifindex;

	skb->cb[0] = flags;
	skb->cb[1] = line;
	skb->cb[2] = 0;
	skb->cb[4] = 0;
	/* Headers are enough for nearly all; for the others a second run has all of the packet. */
	result = pm_skb_run(skb, PM_SKB_HEADERS);
	if (pm_unlikely((__u32)result == PM_WANT_PAYLOAD))
		result = pm_skb_run(skb, skb->len);
	ifindex = result >> 32;
	if (pm_unlikely(skb->cb[4]) && pm_act(result) == PM_ACTION_SEND && (__u32)result < PM_ANSWER_PORT_UNREACHABLE &&
	    pm_cut(skb, ifindex, skb->cb[4]))
		result = PM_DROP_FRAGMENTATION;
	pm_record_left(skb, result, ifindex);
	pm_tally(result);
	switch (pm_act((__u32)result)) {
	case PM_ACTION_PASS:
		return PM_TC_NEXT;
	case PM_ACTION_SEND:
		/* bpf_redirect_neigh has been called already (pm_host_fib). */
		return skb->cb[0] & PM_SKB_RESOLVE ? PM_TC_REDIRECT : bpf_redirect(ifindex, 0);
	default:
		return PM_TC_DROP;
	}
}
