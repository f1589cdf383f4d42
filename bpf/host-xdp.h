/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Frames as XDP has them: one piece of memory, before the kernel's stack knows of it. */
#pragma once

#include "relay.h"

pm_inline void pm_frame_load(struct pm_frame *f)
{
	struct xdp_md *ctx = f->host;

	f->data = (__u8 *)(long)ctx->data;
	f->end = (__u8 *)(long)ctx->data_end;
	f->length = ctx->data_end - ctx->data;
	f->ifindex = ctx->ingress_ifindex;
	f->flags = 0;
	f->segment = 0;
}

/* Bytes in reach: all of them. */
pm_inline __u32 pm_reach(const struct pm_frame *f)
{
	return f->length;
}

/* Moves the start of the frame: negative makes room in front. Non-zero when there is none. */
pm_inline int pm_frame_move(struct pm_frame *f, int delta)
{
	int err = bpf_xdp_adjust_head(f->host, delta);

	pm_frame_load(f);
	return err;
}

/* Frames are whole here: there is no second run. */
#define pm_frame_counted(f) ((void)(f))
#define pm_frame_connected(f, index) ((void)(f))
#define pm_frame_connection(f) ((void)(f), PM_NONE)

/* Cuts the frame to `length` bytes. */
pm_inline int pm_frame_trim(struct pm_frame *f, __u32 length)
{
	int err = bpf_xdp_adjust_tail(f->host, (int)length - (int)f->length);

	pm_frame_load(f);
	return err;
}

pm_inline __u64 pm_sum(struct pm_frame *f, __u32 off, __u32 len)
{
	return pm_sum_bytes(f->host, off, len);
}

/* The neighbour that the last look at the FIB did not find. */
PM_DEFINE_ROOM(relay_room, struct pm_relay)

PM_PART int pm_relay_keep(const struct bpf_fib_lookup *p)
{
	struct pm_relay *room = pm_relay_room();

	if (!room || !p)
		return 0;
	room->ifindex = p->ifindex;
	room->family = p->family;
	__builtin_memcpy(room->next_hop, p->ipv6_dst, sizeof(room->next_hop));
	return 0;
}

pm_inline enum pm_fib_result pm_host_fib(PM_HOST *host, struct pm_fib *q)
{
	struct bpf_fib_lookup p = {};
	enum pm_fib_result rc = pm_ask_fib(host, q, &p);

	if (rc == PM_FIB_NO_NEIGHBOUR)
		pm_relay_keep(&p);
	return rc;
}

/* In the index of an interface: its neighbour is to be found. */
#define PM_UNRESOLVED 0x80000000u

/* Whether traffic control sends beside us what we cannot. No more is asked of it where every interface takes frames. */
PM_PART int pm_has_relay(struct xdp_md *ctx)
{
	return pm_egress_flags(ctx->ingress_ifindex) & PM_EGRESS_RELAY;
}

/* The neighbour is not known yet: traffic control has the kernel keep this one frame until it is. */
PM_PART int pm_relay_resolves(struct xdp_md *ctx, struct pm_next_hop *hop)
{
	struct pm_relay *room = pm_relay_room();
	__u32 mtu = 0;

	if (!room || !hop || !room->ifindex || !pm_has_relay(ctx))
		return 0;
	if (bpf_check_mtu(ctx, room->ifindex, &mtu, 0, 0) < 0)
		return 0;
	hop->ifindex = room->ifindex | PM_UNRESOLVED;
	hop->mtu = mtu > 65535 ? 65535 : mtu;
	__builtin_memset(hop->dmac, 0, 6);
	__builtin_memset(hop->smac, 0, 6);
	return 1;
}

#define pm_host_resolves(f, hop) pm_relay_resolves((f)->host, hop)

/* Leaves the frame, which is ready, to traffic control. Non-zero: there is no room for a note in front. */
PM_PART int pm_relay(struct xdp_md *ctx, __u32 ifindex)
{
	struct pm_relay *room = pm_relay_room(), *note;

	if (!room || bpf_xdp_adjust_meta(ctx, -(int)sizeof(*note)))
		return -1;
	note = (void *)(long)ctx->data_meta;
	if ((void *)(note + 1) > (void *)(long)ctx->data)
		return -1;
	note->word = PM_RELAY ^ ctx->ingress_ifindex;
	note->ifindex = ifindex & ~PM_UNRESOLVED;
	note->family = ifindex & PM_UNRESOLVED ? room->family : 0;
	__builtin_memcpy(note->next_hop, room->next_hop, sizeof(note->next_hop));
	return 0;
}

/* One frame in, one frame out: at most traffic control is told what to go on with (cut-mark.h). */
#define pm_host_cuts(f, mtu) ((void)(f), (void)(mtu), 0)
#define pm_uncut(f, set, line) \
	((set)->flags & PM_SETTING_CUTS ? ((f)->ifindex = (line), PM_WANT_CUT) : PM_DROP_FRAGMENTATION)

enum pm_way {
	PM_WAY_NONE, /* none: the kernel would take the frame and lose it */
	PM_WAY_TURN, /* XDP_TX */
	PM_WAY_REDIRECT,
	PM_WAY_RELAY, /* by traffic control */
};

/* How a frame that came in here can leave by an interface. */
pm_inline enum pm_way pm_way_out(struct xdp_md *ctx, __u32 ifindex)
{
	__u32 from = ctx->ingress_ifindex, flags = pm_egress_flags(ifindex) & ~PM_EGRESS_RELAY;

	if (pm_likely(!flags)) {
		if (ifindex == from)
			return PM_WAY_TURN;
		return pm_unlikely(ifindex & PM_UNRESOLVED) ? PM_WAY_RELAY : PM_WAY_REDIRECT;
	}
	if (flags & PM_EGRESS_NO_ETHERNET)
		return pm_has_relay(ctx) ? PM_WAY_RELAY : PM_WAY_NONE;
	if (ifindex == from && !(flags & PM_EGRESS_NO_TURN))
		return PM_WAY_TURN;
	/* Generic mode sends like any other packet: every driver takes that. */
	if ((flags & PM_EGRESS_NO_REDIRECT) && !(pm_egress_flags(from) & PM_EGRESS_GENERIC))
		return pm_has_relay(ctx) ? PM_WAY_RELAY : PM_WAY_NONE;
	return PM_WAY_REDIRECT;
}

pm_inline int pm_host_takes(PM_HOST *host, __u32 ifindex)
{
	return pm_way_out(host, ifindex) != PM_WAY_NONE;
}
