/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* A packet of the kernel's stack through the program, and what becomes of it. */
#pragma once

#include "process.h"
#include "gather.h"
#include "record.h"

/* One run of the program, with the first `reach` bytes where it sees them. */
pm_inline __u64 pm_skb_run(struct __sk_buff *skb, __u32 reach)
{
	if (pm_skb_reach(skb, reach))
		return PM_DROP_HEADROOM;
	return pm_process(skb);
}

/* Headers are enough for nearly all packets; for the others a second run has all of them. */
pm_inline __u64 pm_skb_decide(struct __sk_buff *skb)
{
	__u64 result = pm_skb_run(skb, PM_SKB_HEADERS);

	if (pm_unlikely((__u32)result == PM_WANT_PAYLOAD))
		result = pm_skb_run(skb, skb->len);
	return result;
}

/* Sends all but the last of the fragments that the packet leaves in; what has become of it then. */
PM_PART __u32 pm_skb_cut(struct __sk_buff *skb, __u32 verdict, __u32 ifindex)
{
	__u32 how = 0, mtu = skb->cb[4];

	if (pm_act(verdict) != PM_ACTION_SEND || verdict >= PM_ANSWER_PORT_UNREACHABLE)
		return verdict;
	if (skb->cb[0] & PM_SKB_WHOLE) {
		mtu = pm_gather_most(skb);
		how = pm_gather_how(skb);
		/* The kernel keeps one frame until a neighbour is found. */
		if (mtu && (skb->cb[0] & PM_SKB_RESOLVE))
			return PM_DROP_NEXT_HOP_UNRESOLVED;
	}
	return mtu && pm_cut(skb, ifindex, mtu, how) ? PM_DROP_FRAGMENTATION : verdict;
}

/* What traffic control is to do with it; `flags` and `line`: what is known of an earlier run (host-skb.h). */
pm_inline int pm_skb_take(struct __sk_buff *skb, __u32 flags, __u32 line)
{
	__u64 result;
	__u32 ifindex, v;

	skb->cb[0] = flags;
	skb->cb[1] = line;
	skb->cb[2] = 0;
	skb->cb[4] = 0;
	result = pm_skb_decide(skb);
	if (pm_unlikely((__u32)result == PM_WANT_DATAGRAM)) {
		result = pm_gather(skb);
		/* Kept: nothing has become of it yet. */
		if (result == PM_WANT_DATAGRAM)
			return PM_TC_DROP;
		if (result == PM_CONTINUE)
			result = pm_skb_decide(skb);
		if (skb->cb[0] & PM_SKB_WHOLE) {
			v = pm_gather_again(skb, result);
			if (v == PM_CONTINUE)
				result = pm_skb_decide(skb);
			else if (v != (__u32)result)
				result = v;
		}
	}
	ifindex = result >> 32;
	if (pm_unlikely(skb->cb[4] || skb->cb[0] & PM_SKB_WHOLE)) {
		result = pm_skb_cut(skb, result, ifindex);
		if (skb->cb[0] & PM_SKB_WHOLE)
			pm_gather_done();
	}
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
