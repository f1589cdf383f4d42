/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * The least a userspace forwarder can do, as a measure for one that does more: takes IPv4 UDP frames
 * from one interface, puts another destination, TTL and MAC addresses in, sends them out of the other.
 *
 *     forward packet RX TX SOURCE-MAC DESTINATION-MAC ADDRESS PORT
 *     forward xdp    RX TX SOURCE-MAC DESTINATION-MAC ADDRESS PORT OBJECT
 *
 * `packet` makes the same socket calls as the userspace plane: rings of TPACKET_V2 with virtio headers,
 * poll(2), copies from one into the other, sendto(2) for up to 128 frames. `xdp` uses AF_XDP in copy
 * mode with one UMEM for both interfaces. Says "ready" when it forwards; ends with SIGTERM.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/if_packet.h>
#include <linux/if_xdp.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef SOL_XDP
#define SOL_XDP 283
#endif
#ifndef AF_XDP
#define AF_XDP 44
#endif

enum { BATCH = 128, SLOT = 2048, BLOCK = 1 << 16, RING = 8 << 20, SEND_RING = 1 << 20, VNET = 10, ROOM = 134 };
enum { XSK_FRAMES = 4096, XSK_BATCH = 128 };
/* Where the virtio header of a frame to be sent stands in its slot. */
enum { OUT = TPACKET2_HDRLEN - sizeof(struct sockaddr_ll) };

static struct {
	unsigned char smac[ETH_ALEN], dmac[ETH_ALEN];
	unsigned int addr;
	unsigned short port;
} to;

__attribute__((noreturn)) static void fail(const char *what)
{
	fprintf(stderr, "forward: cannot %s: %s\n", what, strerror(errno));
	exit(1);
}

static void need(int result, const char *what)
{
	if (result < 0)
		fail(what);
}

static unsigned short change(unsigned short check, unsigned int delta)
{
	unsigned int sum = (unsigned short)~check + delta;

	sum = (sum & 0xffff) + (sum >> 16);
	return ~((sum & 0xffff) + (sum >> 16));
}

/* 1 if the frame is to be sent on. */
static int rewrite(unsigned char *frame, unsigned int length)
{
	struct ethhdr *eth = (void *)frame;
	struct iphdr *ip = (void *)(eth + 1);
	struct udphdr *udp = (void *)(ip + 1);
	unsigned int delta;

	if (length < sizeof(*eth) + sizeof(*ip) + sizeof(*udp) || eth->h_proto != htons(ETH_P_IP) ||
	    ip->ihl != 5 || ip->protocol != IPPROTO_UDP || ip->ttl < 2)
		return 0;
	delta = (unsigned short)~(ip->daddr & 0xffff) + (unsigned short)~(ip->daddr >> 16) +
		(to.addr & 0xffff) + (to.addr >> 16);
	ip->daddr = to.addr;
	if (udp->check)
		udp->check = change(udp->check, delta + (unsigned short)~udp->dest + to.port) ?: 0xffff;
	udp->dest = to.port;
	ip->ttl--;
	ip->check = change(ip->check, delta + (unsigned short)~htons(1 << 8));
	memcpy(eth->h_dest, to.dmac, ETH_ALEN);
	memcpy(eth->h_source, to.smac, ETH_ALEN);
	return 1;
}

static void set(int fd, int name, int value, const char *what)
{
	need(setsockopt(fd, SOL_PACKET, name, &value, sizeof(value)), what);
}

static void bind_packet(int fd, const char *device, unsigned short protocol)
{
	struct sockaddr_ll at = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons(protocol),
		.sll_ifindex = if_nametoindex(device),
	};

	need(bind(fd, (void *)&at, sizeof(at)), "bind");
}

static unsigned char *map_ring(int fd, int kind, unsigned int bytes)
{
	struct tpacket_req request = { BLOCK, bytes / BLOCK, SLOT, bytes / SLOT };
	unsigned char *ring;

	need(setsockopt(fd, SOL_PACKET, kind, &request, sizeof(request)), "make a ring");
	ring = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
	if (ring == MAP_FAILED)
		fail("map a ring");
	return ring;
}

static void forward_packet(const char *rx_device, const char *tx_device)
{
	int rx = socket(AF_PACKET, SOCK_RAW, 0), tx = socket(AF_PACKET, SOCK_RAW, 0), room = 8 << 20;
	unsigned char *received, *send;
	struct tpacket2_hdr *held[BATCH];
	unsigned int next = 0, out = 0;

	need(rx | tx, "open packet sockets");
	set(rx, PACKET_VERSION, TPACKET_V2, "choose TPACKET_V2");
	set(rx, PACKET_RESERVE, ROOM, "reserve room");
	set(rx, PACKET_VNET_HDR, 1, "switch virtio headers on");
	set(rx, PACKET_IGNORE_OUTGOING, 1, "leave outgoing frames out");
	received = map_ring(rx, PACKET_RX_RING, RING);
	set(tx, PACKET_VERSION, TPACKET_V2, "choose TPACKET_V2");
	set(tx, PACKET_VNET_HDR, 1, "switch virtio headers on");
	set(tx, PACKET_QDISC_BYPASS, 1, "bypass the queueing discipline");
	setsockopt(tx, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room));
	send = map_ring(tx, PACKET_TX_RING, SEND_RING);
	bind_packet(tx, tx_device, 0);
	bind_packet(rx, rx_device, ETH_P_ALL);
	puts("ready");
	for (;;) {
		struct pollfd waiting = { .fd = rx, .events = POLLIN };
		int count = 0, taken = 0;

		while (taken < BATCH) {
			struct tpacket2_hdr *slot = (void *)(received + (size_t)next * SLOT);
			struct tpacket2_hdr *free = (void *)(send + (size_t)out * SLOT);
			unsigned char *frame, *vnet = (unsigned char *)free + OUT;

			if (!(__atomic_load_n(&slot->tp_status, __ATOMIC_ACQUIRE) & TP_STATUS_USER))
				break;
			held[taken++] = slot;
			next = next + 1 == RING / SLOT ? 0 : next + 1;
			frame = (unsigned char *)slot + slot->tp_mac;
			/* A frame that there is no room for is lost. */
			if (!rewrite(frame, slot->tp_snaplen) ||
			    __atomic_load_n(&free->tp_status, __ATOMIC_ACQUIRE) != TP_STATUS_AVAILABLE)
				continue;
			memset(vnet, 0, VNET);
			/* All of it goes into the linear part of the kernel's buffer. */
			((struct virtio_net_hdr *)vnet)->hdr_len = slot->tp_snaplen;
			memcpy(vnet + VNET, frame, slot->tp_snaplen);
			free->tp_len = VNET + slot->tp_snaplen;
			__atomic_store_n(&free->tp_status, TP_STATUS_SEND_REQUEST, __ATOMIC_RELEASE);
			out = out + 1 == SEND_RING / SLOT ? 0 : out + 1;
			count++;
		}
		if (count)
			sendto(tx, NULL, 0, MSG_DONTWAIT, NULL, 0);
		for (int i = 0; i < taken; i++)
			__atomic_store_n(&held[i]->tp_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
		if (!taken)
			poll(&waiting, 1, -1);
	}
}

struct queue {
	unsigned int *producer, *consumer;
	void *entries;
};

static struct queue map_queue(int fd, const struct xdp_ring_offset *off, size_t entry, off_t page)
{
	unsigned char *at = mmap(NULL, off->desc + XSK_FRAMES * entry, PROT_READ | PROT_WRITE,
				 MAP_SHARED | MAP_POPULATE, fd, page);

	if (at == MAP_FAILED)
		fail("map an AF_XDP ring");
	return (struct queue){ (void *)(at + off->producer), (void *)(at + off->consumer), at + off->desc };
}

static void size_ring(int fd, int name)
{
	int entries = XSK_FRAMES;

	need(setsockopt(fd, SOL_XDP, name, &entries, sizeof(entries)), "size an AF_XDP ring");
}

static void bind_xsk(int fd, const char *device, int flags, int shared)
{
	struct sockaddr_xdp at = {
		.sxdp_family = AF_XDP,
		.sxdp_flags = flags,
		.sxdp_ifindex = if_nametoindex(device),
		.sxdp_shared_umem_fd = shared,
	};

	need(bind(fd, (void *)&at, sizeof(at)), "bind an AF_XDP socket");
}

static void attach_xsk(int fd, const char *device, const char *file)
{
	struct bpf_object *object = bpf_object__open_file(file, NULL);
	unsigned int zero = 0;

	if (!object || bpf_object__load(object))
		fail("load the XDP program");
	need(bpf_map_update_elem(bpf_object__find_map_fd_by_name(object, "bench_sockets"), &zero, &fd, 0),
	     "hand the socket to the XDP program");
	need(bpf_xdp_attach(if_nametoindex(device),
			    bpf_program__fd(bpf_object__find_program_by_name(object, "to_socket")),
			    XDP_FLAGS_DRV_MODE, NULL),
	     "attach the XDP program");
}

static void forward_xdp(const char *rx_device, const char *tx_device, const char *object)
{
	int rx = socket(AF_XDP, SOCK_RAW, 0), tx = socket(AF_XDP, SOCK_RAW, 0);
	size_t size = (size_t)XSK_FRAMES * SLOT;
	unsigned char *frames = mmap(NULL, size, PROT_READ | PROT_WRITE,
				     MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	struct xdp_umem_reg region = { .addr = (unsigned long)frames, .len = size, .chunk_size = SLOT };
	struct xdp_mmap_offsets at;
	socklen_t length = sizeof(at);
	struct queue received, fill, send, done;

	need(rx | tx, "open AF_XDP sockets");
	need(setsockopt(rx, SOL_XDP, XDP_UMEM_REG, &region, sizeof(region)), "register the UMEM");
	size_ring(rx, XDP_UMEM_FILL_RING);
	size_ring(rx, XDP_UMEM_COMPLETION_RING);
	size_ring(rx, XDP_RX_RING);
	size_ring(tx, XDP_UMEM_FILL_RING);
	size_ring(tx, XDP_UMEM_COMPLETION_RING);
	size_ring(tx, XDP_TX_RING);
	need(getsockopt(rx, SOL_XDP, XDP_MMAP_OFFSETS, &at, &length), "read the ring offsets");
	received = map_queue(rx, &at.rx, sizeof(struct xdp_desc), XDP_PGOFF_RX_RING);
	fill = map_queue(rx, &at.fr, sizeof(__u64), XDP_UMEM_PGOFF_FILL_RING);
	send = map_queue(tx, &at.tx, sizeof(struct xdp_desc), XDP_PGOFF_TX_RING);
	done = map_queue(tx, &at.cr, sizeof(__u64), XDP_UMEM_PGOFF_COMPLETION_RING);
	bind_xsk(rx, rx_device, XDP_COPY, 0);
	bind_xsk(tx, tx_device, XDP_SHARED_UMEM, rx);
	for (unsigned int i = 0; i < XSK_FRAMES; i++)
		((__u64 *)fill.entries)[i] = (__u64)i * SLOT;
	__atomic_store_n(fill.producer, XSK_FRAMES, __ATOMIC_RELEASE);
	attach_xsk(rx, rx_device, object);
	puts("ready");
	for (;;) {
		unsigned int from = *received.consumer, out = *send.producer, back = *fill.producer, gone;
		unsigned int count = __atomic_load_n(received.producer, __ATOMIC_ACQUIRE) - from;

		if (count > XSK_BATCH)
			count = XSK_BATCH;
		for (unsigned int i = 0; i < count; i++) {
			struct xdp_desc d = ((struct xdp_desc *)received.entries)[(from + i) % XSK_FRAMES];

			if (rewrite(frames + d.addr, d.len))
				((struct xdp_desc *)send.entries)[out++ % XSK_FRAMES] =
					(struct xdp_desc){ .addr = d.addr, .len = d.len };
			else
				((__u64 *)fill.entries)[back++ % XSK_FRAMES] = d.addr;
		}
		__atomic_store_n(received.consumer, from + count, __ATOMIC_RELEASE);
		__atomic_store_n(send.producer, out, __ATOMIC_RELEASE);
		if (__atomic_load_n(send.consumer, __ATOMIC_ACQUIRE) != out)
			sendto(tx, NULL, 0, MSG_DONTWAIT, NULL, 0);
		gone = *done.consumer;
		while (gone != __atomic_load_n(done.producer, __ATOMIC_ACQUIRE))
			((__u64 *)fill.entries)[back++ % XSK_FRAMES] =
				((__u64 *)done.entries)[gone++ % XSK_FRAMES] & ~(__u64)(SLOT - 1);
		__atomic_store_n(done.consumer, gone, __ATOMIC_RELEASE);
		__atomic_store_n(fill.producer, back, __ATOMIC_RELEASE);
		if (!count && __atomic_load_n(send.consumer, __ATOMIC_ACQUIRE) == out) {
			struct pollfd waiting = { .fd = rx, .events = POLLIN };

			poll(&waiting, 1, -1);
		}
	}
}

static void parse_mac(const char *text, unsigned char *mac)
{
	if (sscanf(text, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", mac, mac + 1, mac + 2, mac + 3, mac + 4, mac + 5) != 6) {
		fprintf(stderr, "forward: cannot parse MAC address \"%s\"\n", text);
		exit(2);
	}
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc < 8) {
		fprintf(stderr, "usage: forward packet|xdp RX TX SOURCE-MAC DESTINATION-MAC ADDRESS PORT [OBJECT]\n");
		return 2;
	}
	parse_mac(argv[4], to.smac);
	parse_mac(argv[5], to.dmac);
	to.addr = inet_addr(argv[6]);
	to.port = htons(atoi(argv[7]));
	if (!strcmp(argv[1], "packet"))
		forward_packet(argv[2], argv[3]);
	else if (argc > 8)
		forward_xdp(argv[2], argv[3], argv[8]);
	return 2;
}
