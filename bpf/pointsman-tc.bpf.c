/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* The packet program in the kernel's traffic control: packets of the stack in, what becomes of them out. */
#define PM_SKB

#include "skb-run.h"

SEC("tc")
int pointsman(struct __sk_buff *skb)
{
	pm_record_came(skb);
	return pm_skb_take(skb, 0, 0);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
