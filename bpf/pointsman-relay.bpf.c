/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* In traffic control beside XDP: sends what that has made ready and cannot send (relay.h). */
#define PM_SKB

#include "host.h"
#include "relay.h"

SEC("tc")
int pointsman(struct __sk_buff *skb)
{
	struct pm_relay *note = (void *)(long)skb->data_meta;
	struct bpf_redir_neigh hop = {};
	__u32 ifindex;

	if ((void *)(note + 1) > (void *)(long)skb->data || note->word != (PM_RELAY ^ skb->ifindex))
		return PM_TC_NEXT;
	/* The other end of a veth may be a director, too. */
	note->word = 0;
	ifindex = note->ifindex;
	if (!note->family)
		return bpf_redirect(ifindex, 0);
	hop.nh_family = note->family;
	__builtin_memcpy(hop.ipv6_nh, note->next_hop, sizeof(hop.ipv6_nh));
	return bpf_redirect_neigh(ifindex, &hop, sizeof(hop), 0);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
