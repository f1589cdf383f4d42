/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * The packet program in traffic control, beside XDP: for frames that XDP has marked, which are larger than their path
 * and may leave in fragments, and for fragments, which XDP leaves to it.
 */
#define PM_SKB

#include "skb-run.h"
#include "cut-mark.h"

/* Whether the packet is a fragment that is to be kept until all of its datagram is there. */
PM_PART int pm_is_left(struct __sk_buff *skb)
{
	const struct pm_settings *set = pm_settings(0);
	struct pm_frame f;
	struct pm_eth *eth;
	__u32 says;

	if (!set || !(set->flags & PM_SETTING_DATAGRAMS) || pm_skb_reach(skb, PM_SKB_HEADERS))
		return 0;
	f = pm_frame_open(skb);
	if (f.data + PM_ETH_LEN + PM_IPV4_LEN > f.end)
		return 0;
	eth = (void *)f.data;
	if (eth->type == pm_htons(PM_ETHERTYPE_IPV4))
		return !!(((struct pm_ipv4 *)(f.data + PM_ETH_LEN))->fragment & pm_htons(PM_IPV4_MF | PM_IPV4_OFFSET));
	return eth->type == pm_htons(PM_ETHERTYPE_IPV6) && pm_fragment_header(&f, &says);
}

SEC("tc")
int pointsman(struct __sk_buff *skb)
{
	__u32 line, flags = 0;

	if (!pm_take_mark(skb, &line)) {
		if (line != PM_CUT_UNCOUNTED)
			flags = line == PM_CUT_COUNTED ? PM_JOB_RESUMED : PM_JOB_RESUMED | PM_JOB_CONNECTED;
	} else if (pm_is_left(skb)) {
		line = 0;
	} else {
		return PM_TC_NEXT;
	}
	return pm_skb_take(skb, flags, line);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
