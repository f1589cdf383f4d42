/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Frames as they come to the userspace plane, made ready for the program: jobs, and what is remembered
 * beside them. Per frame everything is done here, so that only batches cross to TypeScript.
 */
#pragma once

#include "sctp-rewrite.h"

#define PM_AT(type, address) ((type *)(pm_address)(address))

#define PM_VNET_BYTES 10
#define PM_VNET_NEEDS_CSUM 1
#define PM_VNET_GSO_NONE 0
#define PM_VNET_GSO_MASK 0x7f
#define PM_VNET_GSO_UDP_L4 5
enum pm_vnet_word { PM_VNET_FLAGS_AND_TYPE, PM_VNET_HEADER, PM_VNET_SEGMENT, PM_VNET_START, PM_VNET_OFFSET, PM_VNET_WORDS };

pm_inline __u32 pm_gso_type(const struct pm_arrival *a)
{
	return a->vnet[PM_VNET_FLAGS_AND_TYPE] >> 8;
}

/* Bytes before the payload of a super-packet, which is cut there; a TCP header says its own length. */
pm_inline __u32 pm_header_bytes(const struct pm_arrival *a, const __u8 *frame, __u32 length)
{
	__u32 transport = a->vnet[PM_VNET_START];

	if ((pm_gso_type(a) & PM_VNET_GSO_MASK) == PM_VNET_GSO_UDP_L4)
		return transport + PM_UDP_LEN;
	return transport + 12 < length ? transport + (frame[transport + 12] >> 4) * 4 : transport;
}

/*
 * A CRC that somebody was to finish: what the kernel tells and is told does not say that the checksum is one, so
 * that it would put a sum there. All of the frame is here.
 */
pm_inline int pm_finish_crc(struct pm_job *job, const struct pm_arrival *a)
{
	__u32 l4 = a->vnet[PM_VNET_START], crc;

	if (a->vnet[PM_VNET_OFFSET] != PM_SCTP_CRC || l4 + PM_SCTP_LEN > job->length)
		return 0;
	crc = pm_sctp_sum(job, l4, job->length);
	__builtin_memcpy(PM_AT(__u8, job->data + l4 + PM_SCTP_CRC), &crc, sizeof(crc));
	return 1;
}

/*
 * The program will read these headers, which another CPU has just written. Asked for here, one frame
 * after the other, they come all at the same time.
 */
pm_inline void pm_fetch(__u32 data)
{
	(void)*PM_AT(volatile __u8, data + PM_ETH_LEN + PM_IPV4_LEN);
}

pm_inline void pm_fill_job(struct pm_job *job, struct pm_arrival *a, __u32 data, __u32 length, __u32 ifindex,
			   __u32 port, __u32 to_host)
{
	pm_fetch(data);
	job->data = data;
	job->linear = length;
	job->length = length;
	job->ifindex = ifindex;
	job->verdict = 0;
	job->action = 0;
	job->flags = PM_JOB_WAITS | PM_JOB_CUTS;
	job->moved = 0;
	job->segment = 0;
	job->cut = 0;
	a->received = length;
	a->header_bytes = 0;
	a->chunk = PM_NONE;
	a->vnet[PM_VNET_FLAGS_AND_TYPE] = 0;
	a->to_host = to_host;
	a->port = port;
}

/* A job for a frame of `length` bytes at `data`, all of it in linear memory, its virtio header right before it. */
PM_EXPORT void pm_arrive(struct pm_job *job, struct pm_arrival *a, __u32 data, __u32 length, __u32 ifindex,
			 __u32 port, __u32 to_host)
{
	const __u16 *vnet = PM_AT(__u16, data - PM_VNET_BYTES);

	pm_fill_job(job, a, data, length, ifindex, port, to_host);
	/* Without flags and type the other words say nothing. */
	if (pm_likely(!vnet[PM_VNET_FLAGS_AND_TYPE]))
		return;
	for (int i = 0; i < PM_VNET_WORDS; i++)
		a->vnet[i] = vnet[i];
	if (a->vnet[PM_VNET_FLAGS_AND_TYPE] & PM_VNET_NEEDS_CSUM) {
		if (pm_unlikely(pm_finish_crc(job, a)))
			a->vnet[PM_VNET_FLAGS_AND_TYPE] &= ~PM_VNET_NEEDS_CSUM;
		else
			job->flags |= PM_JOB_PARTIAL_CSUM;
	}
	if (pm_gso_type(a) != PM_VNET_GSO_NONE) {
		a->header_bytes = pm_header_bytes(a, PM_AT(__u8, data), length);
		job->segment = a->header_bytes - PM_ETH_LEN + a->vnet[PM_VNET_SEGMENT];
	}
}
