/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* What this host sends, at the egress of an interface: answers of real servers that are the host itself. */
#define PM_SKB

#include "glance.h"
#include "outgoing.h"

/* One run, with the first `reach` bytes where the program sees them. */
pm_inline enum pm_verdict pm_skb_run(struct __sk_buff *skb, __u32 reach)
{
	if (pm_skb_reach(skb, reach))
		return PM_DROP_HEADROOM;
	return pm_outgoing(skb, skb->protocol);
}

SEC("tc")
int pointsman(struct __sk_buff *skb)
{
	const struct pm_settings *set = pm_settings(0);
	enum pm_verdict v;

	/*
	 * What came in by an interface has been seen there. A tag is put on by a device on top, at whose own egress
	 * this packet has been.
	 */
	if (skb->ingress_ifindex || skb->vlan_present || !set || !pm_concerns(skb, set, 0, 1))
		return PM_TC_NEXT;
	skb->cb[0] = PM_SKB_LOOSE;
	skb->cb[2] = 0;
	v = pm_skb_run(skb, PM_SKB_HEADERS);
	if (pm_unlikely(v == PM_WANT_PAYLOAD))
		v = pm_skb_run(skb, skb->len);
	/* Packets of other people's are none of those that verdicts are about. */
	if (v == PM_PASS_REPLY || v >= PM_FORWARD_NAT)
		pm_tally(v);
	return pm_act(v) == PM_ACTION_PASS || pm_act(v) == PM_ACTION_SEND ? PM_TC_NEXT : PM_TC_DROP;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
