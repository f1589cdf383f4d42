/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Frames that the kernel took from an XDP program of this network namespace and then did not send: the
 * only trace they leave are tracepoints. Counted by the interface they were to leave by and the error.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

/* BPF_PROG makes a context that nobody looks at. */
#pragma clang diagnostic ignored "-Wunused-parameter"

/* What is read of the kernel's records; libbpf looks up where it lies (CO-RE). */
struct ns_common {
	unsigned int inum;
} __attribute__((preserve_access_index));
struct net {
	struct ns_common ns;
} __attribute__((preserve_access_index));
typedef struct {
	struct net *net;
} possible_net_t;
struct net_device {
	int ifindex;
	possible_net_t nd_net;
} __attribute__((preserve_access_index));

/* Our network namespace: set before the programs are loaded. */
const volatile __u32 netns = 0;

#define FAILURES 256
#define PROBES 8
struct failure {
	__u64 key; /* ifindex, errno above it, and a bit that is always set; 0: free */
	__u64 frames;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, FAILURES);
	__type(key, __u32);
	__type(value, struct failure);
} failures SEC(".maps");

static inline __attribute__((always_inline)) void count(__u32 ifindex, int err, __u64 frames)
{
	__u64 key = ifindex | (__u64)(err < 0 ? -err : err) << 32 | 1ull << 63;

	for (int i = 0; i < PROBES; i++) {
		__u32 at = (ifindex * 31 + (key >> 32) + i) % FAILURES;
		struct failure *f = bpf_map_lookup_elem(&failures, &at);

		if (!f)
			return;
		if (f->key == key || !__sync_val_compare_and_swap(&f->key, 0, key) || f->key == key) {
			__sync_fetch_and_add(&f->frames, frames);
			return;
		}
	}
}

static inline __attribute__((always_inline)) int is_ours(const struct net_device *dev)
{
	return dev->nd_net.net->ns.inum == netns;
}

/* Refused at once: no such interface, no transmit function, down, too long. `index`: where it was to go. */
SEC("tp_btf/xdp_redirect_err")
int BPF_PROG(on_redirect_err, const struct net_device *dev, const void *xdp, const void *target, int err,
	     int map_type, __u32 map_id, __u32 index)
{
	if (is_ours(dev))
		count(index, err, 1);
	return 0;
}

/* Taken, and dropped when the batch was handed to the driver: its queue is full, or there is none. */
SEC("tp_btf/xdp_devmap_xmit")
int BPF_PROG(on_devmap_xmit, const struct net_device *from, const struct net_device *to, int sent, int drops, int err)
{
	if (drops > 0 && is_ours(from))
		count(to->ifindex, err, drops);
	return 0;
}

/* The same of frames that were turned round (XDP_TX). */
SEC("tp_btf/xdp_bulk_tx")
int BPF_PROG(on_bulk_tx, const struct net_device *dev, int sent, int drops, int err)
{
	if (drops > 0 && is_ours(dev))
		count(dev->ifindex, err, drops);
	return 0;
}

/* A driver could not carry out what the program said. */
SEC("tp_btf/xdp_exception")
int BPF_PROG(on_exception, const struct net_device *dev, const void *xdp, __u32 act)
{
	if (is_ours(dev))
		count(dev->ifindex, 0, 1);
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
