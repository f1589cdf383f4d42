/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* At the egress of `lo`: what this host's own sockets send to virtual services is led to the program. */
#define PM_SKB

#include "glance.h"
#include "own-way.h"

SEC("tc")
int pointsman(struct __sk_buff *skb)
{
	const struct pm_settings *set = pm_settings(0);
	const struct pm_neighbour *n;
	struct pm_eth *eth;
	enum pm_own_way way;
	__u32 ifindex;

	if (!set || !(set->flags & PM_SETTING_OWN) || !pm_concerns(skb, set, 1, set->flags & PM_SETTING_ANSWERS))
		return PM_TC_NEXT;
	skb->cb[0] = 0;
	skb->cb[2] = 0;
	n = pm_neighbours(PM_NEIGHBOUR_SERVE);
	if (!n)
		return PM_TC_NEXT;
	ifindex = pm_read(n->ifindex);
	if (!ifindex || pm_skb_reach(skb, PM_SKB_HEADERS))
		return PM_TC_NEXT;
	way = pm_own_way(skb, skb->protocol, pm_read(n->mtu));
	if (pm_unlikely(way == PM_OWN_LOST))
		return PM_TC_DROP;
	eth = (void *)(long)skb->data;
	if (way != PM_OWN_SERVED || (void *)(eth + 1) > (void *)(long)skb->data_end)
		return PM_TC_NEXT;
	pm_copy_mac(eth->dst, n->dmac);
	pm_copy_mac(eth->src, n->smac);
	return bpf_redirect(ifindex, 0);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
