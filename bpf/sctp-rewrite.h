/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* NAT of SCTP: ports, and the CRC-32C over everything from the ports on. Addresses are not in it. */
#pragma once

#include "crc32c.h"
#include "fragment.h"

#define PM_SCTP_CRC __builtin_offsetof(struct pm_sctp, crc)

/* The checksum of a packet all of which is in reach; nothing of what stands in its place counts. */
pm_inline __u32 pm_sctp_sum(PM_HOST *host, __u32 l4, __u32 end)
{
	__u32 crc = pm_crc_bytes(host, l4, PM_SCTP_CRC, ~0u);

	crc = pm_crc_word(crc, 0);
	return ~pm_crc_bytes(host, l4 + PM_SCTP_LEN, end - l4 - PM_SCTP_LEN, crc);
}

/* What pm_translate_sctp is to do: the new port in the low half, and these. */
#define PM_SCTP_SOURCE 0x10000u
#define PM_SCTP_FIRST_PART 0x20000u
#define PM_SCTP_V6 0x40000u

/*
 * Puts a port in place of another. As with IPVS a checksum is made anew if that changes it, and so is right then,
 * whatever came; else nobody touches it. Where not all of the packet is in reach, the change is carried over: a
 * wrong one stays wrong. `addr_change` is that of the header's addresses, for hosts that keep a sum of all bytes.
 */
PM_PART __u32 pm_translate_sctp(PM_HOST *host, __u32 l4, __u32 end, __u32 how, __u32 addr_change)
{
	struct pm_frame f = pm_frame_open(host);
	struct pm_extent extent = {};
	__be16 port = how, was;
	__u32 crc, old, word;
	struct pm_sctp *h;

	pm_find_partial(&f);
	h = pm_l4_at(&f, l4, sizeof(*h));
	if (!h || end > 0xffff + PM_ETH_LEN || end < l4 + sizeof(*h))
		return PM_DROP_MAP;
	was = how & PM_SCTP_SOURCE ? h->sport : h->dport;
	if (was == port) {
		pm_bytes_changed(&f, addr_change);
		return PM_CONTINUE;
	}
	/* How many bytes will follow only the last fragment says. One that is all there is, is whole (RFC 6946). */
	if ((how & PM_SCTP_FIRST_PART) && (pm_extent_of(&f, how & PM_SCTP_V6 ? 6 : 4, &extent) || extent.more))
		return PM_DROP_CHECKSUM_LIMIT;
	old = h->crc;
	word = pm_load32(&h->sport);
	if (how & PM_SCTP_SOURCE)
		h->sport = port;
	else
		h->dport = port;
	/* Whoever finishes it takes the bytes as they are then. */
	if (f.flags & PM_JOB_PARTIAL_CSUM)
		return PM_CONTINUE;
	if (pm_reach(&f) >= end && end <= PM_SUM_MAX)
		crc = pm_sctp_sum(host, l4, end);
	else
		crc = old ^ pm_crc_carry(pm_crc_word(0, word ^ pm_load32(&h->sport)), end - l4 - 4);
	h->crc = crc;
	pm_bytes_changed(&f, addr_change + pm_change16(was, port) + pm_change32(old, crc));
	return PM_CONTINUE;
}
