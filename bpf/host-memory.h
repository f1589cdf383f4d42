/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Memory as host: maps are regions that the embedding hands over (pm_map_set), frames are records of
 * struct pm_job, the next hop is a call outside. Used by wasm32 and by native builds.
 */
#pragma once

typedef __UINTPTR_TYPE__ pm_address;

#define pm_opaque(x) ((void)(x))
#define pm_stored(x) ((void)(x))
#define pm_unknown(x, from) ((void)(x), (void)(from))
#define pm_glance(x) (PM_STEP(), __atomic_load_n(&(x), __ATOMIC_ACQUIRE))
#define pm_after(p, x) ((void)(x), (p))

pm_inline __u32 pm_load32(const void *p)
{
	__u32 word;

	__builtin_memcpy(&word, p, 4);
	return word;
}

pm_inline void pm_store32(void *p, __u32 word)
{
	__builtin_memcpy(p, &word, 4);
}

/* Any frame can be summed. */
#define PM_SUM_MAX 0xffffffffu

extern struct pm_limits pm_limits;
struct pm_limits pm_limits = { .cpus = 1 };

struct pm_region {
	__u8 *base;
	__u32 entries;
};

#define PM_NAME_REGION(name, record, size) PM_REGION_##name,
enum pm_region_index { PM_MAPS(PM_NAME_REGION) PM_REGIONS };

static struct pm_region pm_regions[PM_REGIONS];

#define PM_DEFINE_MAP(name, record, size)                                \
	pm_inline record *pm_##name(__u32 index)                         \
	{                                                                \
		const struct pm_region *r = &pm_regions[PM_REGION_##name]; \
                                                                         \
		return index < r->entries ?                              \
			       (record *)(r->base + (pm_address)index * sizeof(record)) : \
			       PM_NULL;                                  \
	}
PM_MAPS(PM_DEFINE_MAP)

/* One per worker: the embedding gives each its own instance or thread. */
#define PM_DEFINE_ROOM(name, record)       \
	static PM_THREAD_LOCAL record name; \
	pm_inline record *pm_##name(void)   \
	{                                   \
		return &name;               \
	}
static PM_THREAD_LOCAL __u32 pm_clock;
static PM_THREAD_LOCAL __u32 pm_row;

pm_inline __u32 pm_now(void)
{
	return pm_clock;
}

pm_inline __u32 pm_cpu(void)
{
	return pm_row;
}

/* A thread has a row of its own, or is refused. */
#define pm_is_shared(row) ((void)(row), 0)

pm_inline void pm_frame_load(struct pm_frame *f)
{
	struct pm_job *job = f->host;

	f->data = PM_FRAME_AT(job->data + job->moved);
	f->end = f->data + job->linear;
	f->length = job->length;
	f->ifindex = job->ifindex;
	f->flags = job->flags;
	f->segment = job->segment;
}

pm_inline __u32 pm_reach(const struct pm_frame *f)
{
	return f->end - f->data;
}

pm_inline int pm_frame_move(struct pm_frame *f, int delta)
{
	struct pm_job *job = f->host;
	int moved = job->moved + delta;

	if (moved < -PM_HEADROOM || (delta > 0 && (__u32)delta > job->linear))
		return -1;
	job->moved = moved;
	job->linear -= delta;
	job->length -= delta;
	pm_frame_load(f);
	return 0;
}

/* The packet has left traces (counters, a connection): a second run with all of it must not add any. */
pm_inline void pm_frame_counted(struct pm_frame *f)
{
	f->flags |= PM_JOB_RESUMED;
	((struct pm_job *)f->host)->flags |= PM_JOB_RESUMED;
}

/* It has also made a connection, which a second run goes on with. */
pm_inline void pm_frame_connected(struct pm_frame *f, __u32 index)
{
	struct pm_job *job = f->host;

	f->flags |= PM_JOB_CONNECTED;
	job->flags |= PM_JOB_CONNECTED;
	job->connection = index;
}

pm_inline __u32 pm_frame_connection(const struct pm_frame *f)
{
	const struct pm_job *job = f->host;

	return job->flags & PM_JOB_CONNECTED ? job->connection : PM_NONE;
}

pm_inline int pm_frame_trim(struct pm_frame *f, __u32 length)
{
	struct pm_job *job = f->host;

	if (length > job->length)
		return -1;
	job->length = length;
	if (job->linear > length)
		job->linear = length;
	pm_frame_load(f);
	return 0;
}

/* Fragments are made by the embedding, if that does so; never of super-packets, whose segments are too large. */
pm_inline int pm_host_cuts(struct pm_frame *f, __u32 mtu)
{
	struct pm_job *job = f->host;

	if (!(job->flags & PM_JOB_CUTS) || job->segment)
		return 0;
	job->cut = mtu;
	return 1;
}

/* Who waits for neighbours is the embedding. */
#define pm_host_resolves(f, hop) ((void)(f), (void)(hop), 0)

/* Sockets send on every interface. */
pm_inline int pm_host_takes(PM_HOST *host, __u32 ifindex)
{
	(void)host;
	(void)ifindex;
	return 1;
}

pm_inline __u64 pm_sum(struct pm_frame *f, __u32 off, __u32 len)
{
	const __u8 *p = f->data + off;
	__u64 sum = 0;

	for (; len >= 4 && p + 4 <= f->end; p += 4, len -= 4) {
		__u32 word;

		__builtin_memcpy(&word, p, 4);
		sum += word;
	}
	if (len >= 2 && p + 2 <= f->end) {
		__u16 word;

		__builtin_memcpy(&word, p, 2);
		sum += word;
		p += 2;
		len -= 2;
	}
	if (len == 1 && p + 1 <= f->end)
		sum += *p;
	return sum;
}

#define pm_loop(n, fn, arg)                                   \
	do {                                                  \
		for (__u32 _i = 0; _i < (n); _i++)            \
			if (fn(_i, arg))                      \
				break;                        \
	} while (0)
