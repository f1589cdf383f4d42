/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * What XDP cannot send: frames for interfaces that take none of XDP's, and such whose neighbour is to be found first.
 * Traffic control at the interface that they came in by can do both. So XDP makes the frame ready, decided and
 * counted, and lets it pass with a note in front; traffic control does what the note says, and looks at nothing else.
 */
#pragma once

/* What is in front of a frame (bpf_xdp_adjust_meta): 32 bytes at most before Linux 6.7. */
struct pm_relay {
	__u32 word;	    /* PM_RELAY and the interface it came in by: nobody else's note */
	__u32 ifindex;	    /* that it leaves by */
	__u32 family;	    /* of the neighbour to be found, 0: the frame has its addresses */
	__be32 next_hop[4]; /* that neighbour */
};

#define PM_RELAY 0x706d0000u
