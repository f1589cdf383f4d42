/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* The packet program with a recorder before and behind it (record.h). */
#define PM_RECORD

#include "pointsman.bpf.c"
