/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* The Internet checksum: whole (RFC 1071) and after a change (RFC 1624). */
#pragma once

#include "host.h"
#include "wire.h"

/* Folds a sum of 16-bit words to 16 bits; not complemented. */
pm_inline __u16 pm_fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

/* RFC 1624 §3, equation 3: HC' = ~(~HC + ~m + m'). `change` collects ~m + m' of all changed words. */
pm_inline __be16 pm_csum_change(__be16 check, __u64 change)
{
	return ~pm_fold((__u16)~check + change);
}

pm_inline __u64 pm_change16(__be16 from, __be16 to)
{
	return (__u64)(__u16)~from + to;
}

pm_inline __u64 pm_change32(__be32 from, __be32 to)
{
	return (__u64)(__u32)~from + to;
}

/* Sum over an IPv4 header without options. */
pm_inline __u64 pm_sum_ipv4(const struct pm_ipv4 *ip)
{
	const __u8 *words = (const __u8 *)ip;
	__u64 sum = 0;

#pragma unroll
	for (int i = 0; i < PM_IPV4_LEN; i += 4)
		sum += pm_load32(words + i);
	return sum;
}

/* RFC 793 §3.1, RFC 8200 §8.1: the pseudo header. Addresses as `words` 32-bit words each. */
pm_inline __u64 pm_sum_pseudo(const __be32 *saddr, const __be32 *daddr, int words, __u8 protocol, __u32 length)
{
	__u64 sum = 0;

#pragma unroll
	for (int i = 0; i < 4; i++) {
		if (i < words)
			sum += (__u64)saddr[i] + daddr[i];
	}
	return sum + pm_htons(protocol) + pm_htonl(length);
}
