/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* The packet program in the kernel: frames in, XDP actions out. */
#include "process.h"
#include "cut-mark.h"
#include "record.h"

/* BTF keeps only what something refers to: these make the layout complete for the generator. */
const enum pm_verdict *pm_btf_verdict __attribute__((unused));
const enum pm_fate *pm_btf_fate __attribute__((unused));
const enum pm_action *pm_btf_action __attribute__((unused));
const enum pm_method *pm_btf_method __attribute__((unused));
const enum pm_tunnel *pm_btf_tunnel __attribute__((unused));
const enum pm_tunnel_flag *pm_btf_tunnel_flag __attribute__((unused));
const enum pm_scheduler *pm_btf_scheduler __attribute__((unused));
const enum pm_service_flag *pm_btf_service_flag __attribute__((unused));
const enum pm_slot *pm_btf_slot __attribute__((unused));
const enum pm_engine *pm_btf_engine __attribute__((unused));
const enum pm_real_flag *pm_btf_real_flag __attribute__((unused));
const enum pm_tcp_state *pm_btf_tcp_state __attribute__((unused));
const enum pm_sctp_state *pm_btf_sctp_state __attribute__((unused));
const enum pm_setting *pm_btf_setting __attribute__((unused));
const enum pm_conn_status *pm_btf_conn_status __attribute__((unused));
const enum pm_conn_kind *pm_btf_conn_kind __attribute__((unused));
const enum pm_conn_class *pm_btf_conn_class __attribute__((unused));
const enum pm_conn_flag *pm_btf_conn_flag __attribute__((unused));
const enum pm_template_state *pm_btf_template_state __attribute__((unused));
const enum pm_job_flag *pm_btf_job_flag __attribute__((unused));
const enum pm_fib_result *pm_btf_fib_result __attribute__((unused));
const enum pm_egress_flag *pm_btf_egress_flag __attribute__((unused));
const enum pm_filter_verdict *pm_btf_filter_verdict __attribute__((unused));
const enum pm_mark_field *pm_btf_mark_field __attribute__((unused));
const struct pm_job *pm_btf_job __attribute__((unused));
const struct pm_fib *pm_btf_fib __attribute__((unused));
const struct pm_arrival *pm_btf_arrival __attribute__((unused));
const struct pm_ring *pm_btf_ring __attribute__((unused));
const struct pm_queue *pm_btf_queue __attribute__((unused));
const struct pm_pool *pm_btf_pool __attribute__((unused));

SEC("xdp")
int pointsman(struct xdp_md *ctx)
{
	__u64 result;
	enum pm_verdict v;
	__u32 ifindex;
	enum pm_way way = PM_WAY_NONE;

	pm_record_came(ctx);
	result = pm_process(ctx);
	pm_record_decided(result);
	v = (__u32)result;
	ifindex = result >> 32;
	if (pm_act(v) == PM_ACTION_SEND) {
		way = pm_way_out(ctx, ifindex);
		/* A frame that cannot leave is never counted as sent. */
		if (way == PM_WAY_NONE)
			v = PM_DROP_EGRESS;
		else if (pm_unlikely(way == PM_WAY_RELAY) && pm_relay(ctx, ifindex))
			v = PM_DROP_HEADROOM;
		ifindex &= ~PM_UNRESOLVED;
	}
	if (pm_unlikely(v == PM_WANT_CUT) && pm_leave_mark(ctx, ifindex))
		v = PM_DROP_FRAGMENTATION;
	pm_record_left(ctx, v, ifindex);
	/* Counted by whoever cuts it, or puts it together. */
	if (pm_unlikely(v == PM_WANT_CUT || v == PM_WANT_DATAGRAM))
		return XDP_PASS;
	pm_tally(v);
	switch (pm_act(v)) {
	case PM_ACTION_PASS:
		return XDP_PASS;
	case PM_ACTION_SEND:
		if (pm_unlikely(way == PM_WAY_RELAY))
			return XDP_PASS;
		return way == PM_WAY_TURN ? XDP_TX : bpf_redirect(ifindex, 0);
	default:
		return XDP_DROP;
	}
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
