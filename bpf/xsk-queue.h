/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Queues of AF_XDP sockets (Documentation/networking/af_xdp.rst). A piece of the frame memory is in one of
 * the rings, in a batch, or in the pool.
 */
#pragma once

#include "intake.h"

/* struct xdp_desc */
struct pm_descriptor {
	__u64 address;
	__u32 length;
	__u32 options;
};

#define PM_XSK_MASK (PM_XSK_ENTRIES - 1)

pm_inline __u32 pm_ring_count(__u32 address)
{
	return __atomic_load_n(PM_AT(__u32, address), __ATOMIC_ACQUIRE);
}

pm_inline void pm_ring_tell(__u32 address, __u32 count)
{
	__atomic_store_n(PM_AT(__u32, address), count, __ATOMIC_RELEASE);
}

pm_inline void pm_pool_give(struct pm_pool *pool, __u32 offset)
{
	PM_AT(__u32, pool->free)[pool->count++] = offset & ~(__u32)(PM_CHUNK - 1);
}

/* Frames waiting in the receive ring become jobs, `room` at most. */
PM_EXPORT __u32 pm_queue_take(struct pm_queue *q, struct pm_job *jobs, struct pm_arrival *arrivals, __u32 room)
{
	__u32 from = *PM_AT(__u32, q->rx_consumer), count = pm_ring_count(q->rx_producer) - from;

	if (count > room)
		count = room;
	for (__u32 i = 0; i < count; i++) {
		const struct pm_descriptor *d =
			&PM_AT(struct pm_descriptor, q->rx_entries)[(from + i) & PM_XSK_MASK];

		pm_fill_job(&jobs[i], &arrivals[i], q->frames + (__u32)d->address, d->length, q->ifindex,
			    q->port, 1);
		arrivals[i].chunk = d->address;
	}
	if (count)
		pm_ring_tell(q->rx_consumer, from + count);
	return count;
}

/*
 * Gives the frames of the jobs `i` to `end` - 1 to the transmit ring, as long as they came from a queue
 * over the same frames and leave by this one's interface. Dropped ones are passed over. Returns the first
 * that is left for the caller; the kernel learns of them when the producer is told.
 */
PM_EXPORT __u32 pm_queue_put(struct pm_queue *q, const struct pm_job *jobs, struct pm_arrival *arrivals,
			     __u32 i, __u32 end)
{
	__u32 room = PM_XSK_ENTRIES - (q->tx_next - pm_ring_count(q->tx_consumer));

	for (; i < end; i++) {
		const struct pm_job *job = &jobs[i];
		struct pm_descriptor *d =
			&PM_AT(struct pm_descriptor, q->tx_entries)[q->tx_next & PM_XSK_MASK];

		if (job->action == PM_ACTION_DROP)
			continue;
		if (job->action != PM_ACTION_SEND || job->ifindex != q->ifindex || job->cut ||
		    arrivals[i].chunk == PM_NONE || !room)
			break;
		d->address = job->data + job->moved - q->frames;
		d->length = job->length;
		d->options = 0;
		arrivals[i].chunk = PM_NONE;
		q->tx_next++;
		room--;
	}
	return i;
}

/* Takes back what has been sent. */
PM_EXPORT void pm_queue_collect(struct pm_queue *q)
{
	struct pm_pool *pool = PM_AT(struct pm_pool, q->pool);
	__u32 from = *PM_AT(__u32, q->done_consumer), to = pm_ring_count(q->done_producer);

	if (from == to)
		return;
	for (__u32 i = from; i != to; i++)
		pm_pool_give(pool, PM_AT(__u64, q->done_entries)[i & PM_XSK_MASK]);
	pm_ring_tell(q->done_consumer, to);
}

/* The batch is over: frames that were not sent are free again, and the kernel gets new room to receive. */
PM_EXPORT void pm_queue_give(struct pm_queue *q, struct pm_arrival *arrivals, __u32 count)
{
	struct pm_pool *pool = PM_AT(struct pm_pool, q->pool);
	__u32 fill = *PM_AT(__u32, q->fill_producer), before = fill;
	__u32 room = PM_XSK_ENTRIES - (fill - pm_ring_count(q->fill_consumer));

	for (__u32 i = 0; i < count; i++) {
		if (arrivals[i].chunk != PM_NONE)
			pm_pool_give(pool, arrivals[i].chunk);
		arrivals[i].chunk = PM_NONE;
	}
	pm_queue_collect(q);
	for (; room && pool->count; room--)
		PM_AT(__u64, q->fill_entries)[fill++ & PM_XSK_MASK] =
			PM_AT(__u32, pool->free)[--pool->count];
	if (fill != before)
		pm_ring_tell(q->fill_producer, fill);
}
