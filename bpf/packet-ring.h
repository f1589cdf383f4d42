/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Rings of packet sockets, TPACKET_V2 (Documentation/networking/packet_mmap.rst). A slot belongs to the
 * kernel or to us; its status word says to whom.
 */
#pragma once

#include "intake.h"

/* struct tpacket2_hdr, and the packet type in the struct sockaddr_ll behind it */
struct pm_slot_header {
	__u32 status;
	__u32 length;
	__u32 captured;
	__u16 mac; /* from the slot's start to the frame */
	__u16 net;
	__u32 seconds;
	__u32 nanoseconds;
	__u16 vlan;
	__u16 vlan_type;
	__u8 reserved[4];
	__u8 address[10];
	__u8 packet_type;
};

#define PM_SLOT_KERNEL 0
#define PM_SLOT_USER 1
#define PM_SLOT_SEND 1
#define PM_SLOT_VLAN 16
#define PM_SLOT_VLAN_ID 0xfff
#define PM_PACKET_HOST 0
#define PM_PACKET_OUTGOING 4
/* Where the virtio header of a frame to be sent stands: behind struct tpacket2_hdr. */
#define PM_SLOT_OUT 32

pm_inline struct pm_slot_header *pm_slot_at(const struct pm_ring *r, __u32 index)
{
	return PM_AT(struct pm_slot_header, r->base + index * r->slot_bytes);
}

pm_inline __u32 pm_slot_after(const struct pm_ring *r, __u32 index)
{
	return index + 1 == r->slots ? 0 : index + 1;
}

/*
 * Frames waiting in a receive ring become jobs, `room` at most, and one slot always stays: a ring read as
 * a whole would look like one of which nothing was read. Stops early at a frame that is larger
 * than its slot, carries the tag of a VLAN or is an outgoing one: slot `next` is the caller's then.
 */
PM_EXPORT __u32 pm_ring_take(struct pm_ring *r, struct pm_job *jobs, struct pm_arrival *arrivals, __u32 room)
{
	__u32 next = r->next, n = 0;

	for (; n < room; n++) {
		struct pm_slot_header *slot = pm_slot_at(r, next);
		__u32 status = __atomic_load_n(&slot->status, __ATOMIC_ACQUIRE);

		if (!(status & PM_SLOT_USER) || pm_slot_after(r, next) == r->first ||
		    slot->captured < slot->length ||
		    slot->packet_type == PM_PACKET_OUTGOING ||
		    ((status & PM_SLOT_VLAN) && (slot->vlan & PM_SLOT_VLAN_ID)))
			break;
		pm_arrive(&jobs[n], &arrivals[n], (__u32)(pm_address)slot + slot->mac, slot->length, r->ifindex,
			  r->port, slot->packet_type == PM_PACKET_HOST);
		next = pm_slot_after(r, next);
	}
	r->next = next;
	return n;
}

/*
 * All slots that were read are the kernel's again. One fence for all of them: an atomic store in wasm is
 * as dear as a locked instruction.
 */
PM_EXPORT void pm_ring_give(struct pm_ring *r)
{
	__u32 i;

	__atomic_thread_fence(__ATOMIC_RELEASE);
	for (i = r->first; i != r->next; i = pm_slot_after(r, i))
		pm_write(pm_slot_at(r, i)->status, PM_SLOT_KERNEL);
	r->first = i;
}

/* A tunnel's headers begin at a multiple of 4. */
typedef __u64 __attribute__((aligned(2))) pm_word;

/* Up to 7 bytes more than asked for. */
pm_inline void pm_copy_words(pm_word *to, const pm_word *from, __u32 bytes)
{
	for (__u32 i = 0; i < bytes; i += sizeof(pm_word))
		*to++ = *from++;
}

/*
 * Copies frames of the jobs `i` to `end` - 1 into a send ring, as long as they leave by its interface,
 * fit a slot in one piece and need no more than their virtio header. Dropped ones are passed over. Returns the first
 * that is left for the caller.
 */
PM_EXPORT __u32 pm_ring_put(struct pm_ring *r, const struct pm_job *jobs, const struct pm_arrival *arrivals,
			    __u32 i, __u32 end)
{
	__u32 next = r->next;

	for (; i < end; i++) {
		const struct pm_job *job = &jobs[i];
		const struct pm_arrival *a = &arrivals[i];
		struct pm_slot_header *slot = pm_slot_at(r, next);
		__u32 start = job->data + job->moved, flags = 0;
		__u16 *vnet;

		if (job->action == PM_ACTION_DROP)
			continue;
		if (job->action != PM_ACTION_SEND || job->ifindex != r->ifindex || job->cut || pm_gso_type(a) ||
		    PM_SLOT_OUT + PM_VNET_BYTES + job->length > r->slot_bytes ||
		    __atomic_load_n(&slot->status, __ATOMIC_ACQUIRE) != PM_SLOT_KERNEL ||
		    pm_slot_after(r, next) == r->first)
			break;
		if (job->verdict < PM_ANSWER_PORT_UNREACHABLE)
			flags = a->vnet[PM_VNET_FLAGS_AND_TYPE] & PM_VNET_NEEDS_CSUM;
		/* A tunnel around an unfinished checksum has one of its own to be finished. */
		if (flags && job->moved)
			break;
		vnet = PM_AT(__u16, (__u32)(pm_address)slot + PM_SLOT_OUT);
		pm_copy_words((pm_word *)vnet, PM_AT(pm_word, start - PM_VNET_BYTES), PM_VNET_BYTES + job->length);
		vnet[PM_VNET_FLAGS_AND_TYPE] = flags;
		/*
		 * All of it goes into the linear part of the kernel's buffer. What does not is only referred
		 * to, and a device that lets go of the buffer early (veth) would have us overwrite it.
		 */
		vnet[PM_VNET_HEADER] = job->length;
		vnet[PM_VNET_SEGMENT] = 0;
		vnet[PM_VNET_START] = flags ? a->vnet[PM_VNET_START] : 0;
		vnet[PM_VNET_OFFSET] = flags ? a->vnet[PM_VNET_OFFSET] : 0;
		slot->length = PM_VNET_BYTES + job->length;
		/* Looked at only in a system call of this thread. */
		pm_write(slot->status, PM_SLOT_SEND);
		next = pm_slot_after(r, next);
	}
	r->next = next;
	return i;
}
