/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Frames as XDP has them: one piece of memory, before the kernel's stack knows of it. */
#pragma once

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

pm_inline enum pm_fib_result pm_host_fib(PM_HOST *host, struct pm_fib *q)
{
	struct bpf_fib_lookup p = {};

	return pm_ask_fib(host, q, &p);
}

/* One frame in, one frame out: at most traffic control is told what to go on with (cut-mark.h). */
#define pm_host_cuts(f, mtu) ((void)(f), (void)(mtu), 0)
#define pm_uncut(f, set, line) \
	((set)->flags & PM_SETTING_CUTS ? ((f)->ifindex = (line), PM_WANT_CUT) : PM_DROP_FRAGMENTATION)

enum pm_way {
	PM_WAY_NONE, /* none: the kernel would take the frame and lose it */
	PM_WAY_TURN, /* XDP_TX */
	PM_WAY_REDIRECT,
};

/* How a frame that came in here can leave by an interface. */
pm_inline enum pm_way pm_way_out(struct xdp_md *ctx, __u32 ifindex)
{
	__u32 from = ctx->ingress_ifindex, flags = pm_egress_flags(ifindex);

	if (pm_likely(!flags))
		return ifindex == from ? PM_WAY_TURN : PM_WAY_REDIRECT;
	if (flags & PM_EGRESS_NO_ETHERNET)
		return PM_WAY_NONE;
	if (ifindex == from && !(flags & PM_EGRESS_NO_TURN))
		return PM_WAY_TURN;
	/* Generic mode sends like any other packet: every driver takes that. */
	if ((flags & PM_EGRESS_NO_REDIRECT) && !(pm_egress_flags(from) & PM_EGRESS_GENERIC))
		return PM_WAY_NONE;
	return PM_WAY_REDIRECT;
}

pm_inline int pm_host_takes(PM_HOST *host, __u32 ifindex)
{
	return pm_way_out(host, ifindex) != PM_WAY_NONE;
}
