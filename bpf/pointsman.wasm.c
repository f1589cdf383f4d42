/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * The packet program for wasm32: the userspace plane, tests without privileges. The memory is the
 * embedding's and may be shared; every thread has an instance, clock and CPU row of its own.
 */
#define PM_THREAD_LOCAL _Thread_local
#define PM_EXPORT __attribute__((visibility("default")))
#define PM_FRAME_AT(offset) ((__u8 *)(pm_address)(offset))
/* Parts stay functions: the engine compiles small ones sooner, and most packets need none of them. */
#define PM_PART static __attribute__((noinline))

#include "types.h"

__attribute__((import_module("env"), import_name("pm_host_fib"))) __u32 pm_import_fib(struct pm_fib *q);
#define pm_host_fib(host, q) ((void)(host), (enum pm_fib_result)pm_import_fib(q))

#include "memory-host.h"
#include "packet-ring.h"
#include "xsk-queue.h"

#define PM_PAGE 65536u

extern __u8 __heap_base;
static __u64 pm_heap;

/*
 * Memory that is never given back: maps, frames, stacks. Zeroed, 64 bytes aligned, NULL beyond 4 GiB.
 * For the embedding's main thread only.
 */
PM_EXPORT void *pm_alloc(__u32 bytes)
{
	__u64 base, end, have = (__u64)__builtin_wasm_memory_size(0) * PM_PAGE;

	if (!pm_heap)
		pm_heap = (pm_address)&__heap_base;
	base = (pm_heap + 63) & ~63ull;
	end = base + bytes;
	if (end > 0xffff0000ull)
		return PM_NULL;
	if (end > have &&
	    __builtin_wasm_memory_grow(0, (end - have + PM_PAGE - 1) / PM_PAGE) == (__SIZE_TYPE__)-1)
		return PM_NULL;
	pm_heap = end;
	return (void *)(pm_address)base;
}

/* The compiler turns copies into calls of these; there is no C library here. */
void *memcpy(void *to, const void *from, __SIZE_TYPE__ n)
{
	__u8 *t = to;
	const __u8 *f = from;

	while (n--)
		*t++ = *f++;
	return to;
}

void *memset(void *to, int byte, __SIZE_TYPE__ n)
{
	__u8 *t = to;

	while (n--)
		*t++ = byte;
	return to;
}
