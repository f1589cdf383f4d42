/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* The packet program of traffic control with a recorder before and behind it (record.h). */
#define PM_RECORD

#include "pointsman-tc.bpf.c"
