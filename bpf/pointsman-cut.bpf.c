/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * The packet program in traffic control, beside XDP: only for frames that XDP has marked, which are larger than
 * their path and may leave in fragments.
 */
#define PM_SKB

#include "skb-run.h"
#include "cut-mark.h"

SEC("tc")
int pointsman(struct __sk_buff *skb)
{
	__u32 line, flags;

	if (pm_take_mark(skb, &line))
		return PM_TC_NEXT;
	flags = line == PM_CUT_UNCOUNTED ? 0 : line == PM_CUT_COUNTED ? PM_JOB_RESUMED : PM_JOB_RESUMED | PM_JOB_CONNECTED;
	return pm_skb_take(skb, flags, line);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
