/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* The packet program as native code: fuzzing with sanitizers, tests with several threads. */
#define PM_THREAD_LOCAL _Thread_local
#define PM_EXPORT __attribute__((visibility("default")))
#define PM_FRAME_AT(offset) (pm_frames + (__s32)(offset))

#include "types.h"

/* The embedding's frames: pm_job.data counts from here. */
PM_EXPORT __u8 *pm_frames;

/* Answers next hop queries. */
PM_EXPORT __u32 (*pm_fib_hook)(struct pm_fib *q);
#define pm_host_fib(host, q)   \
	((void)(host), pm_fib_hook ? (enum pm_fib_result)pm_fib_hook(q) : PM_FIB_NO_ROUTE)

#include "memory-host.h"
