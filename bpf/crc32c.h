/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * CRC-32C (RFC 9260 appendix A), over a range of the frame, and after a change without what stands behind it.
 * The checksum is a remainder of polynomials: what differs in the message and what differs in the checksum have the
 * same length of message behind them, so that a change is carried to the end by a multiplication with a power of
 * x, whatever the bytes are.
 */
#pragma once

#include "parse.h"

#define PM_CRC_POLYNOMIAL 0x82f63b78u /* lowest power in the highest bit, as all remainders here */

/* Four tables of remainders, for each byte of a word; a remainder of a byte is the sum of its bits'. */
#define PM_CRC_SUM(i, a, b, c, d, e, f, g, h)                                                                  \
	(((i) & 1 ? a : 0) ^ ((i) & 2 ? b : 0) ^ ((i) & 4 ? c : 0) ^ ((i) & 8 ? d : 0) ^ ((i) & 16 ? e : 0) ^  \
	 ((i) & 32 ? f : 0) ^ ((i) & 64 ? g : 0) ^ ((i) & 128 ? h : 0))
#define PM_CRC_0(i)                                                                                     \
	PM_CRC_SUM(i, 0xf26b8303u, 0xe13b70f7u, 0xc79a971fu, 0x8ad958cfu, 0x105ec76fu, 0x20bd8edeu, 0x417b1dbcu, \
		   0x82f63b78u)
#define PM_CRC_1(i)                                                                                     \
	PM_CRC_SUM(i, 0x13a29877u, 0x274530eeu, 0x4e8a61dcu, 0x9d14c3b8u, 0x3fc5f181u, 0x7f8be302u, 0xff17c604u, \
		   0xfbc3faf9u)
#define PM_CRC_2(i)                                                                                     \
	PM_CRC_SUM(i, 0xa541927eu, 0x4f6f520du, 0x9edea41au, 0x38513ec5u, 0x70a27d8au, 0xe144fb14u, 0xc76580d9u, \
		   0x8b277743u)
#define PM_CRC_3(i)                                                                                     \
	PM_CRC_SUM(i, 0xdd45aab8u, 0xbf672381u, 0x7b2231f3u, 0xf64463e6u, 0xe964b13du, 0xd725148bu, 0xaba65fe7u, \
		   0x52a0c93fu)
#define PM_CRC_4_OF(f, i) f(i), f(i + 1), f(i + 2), f(i + 3)
#define PM_CRC_16_OF(f, i) PM_CRC_4_OF(f, i), PM_CRC_4_OF(f, i + 4), PM_CRC_4_OF(f, i + 8), PM_CRC_4_OF(f, i + 12)
#define PM_CRC_64_OF(f, i) \
	PM_CRC_16_OF(f, i), PM_CRC_16_OF(f, i + 16), PM_CRC_16_OF(f, i + 32), PM_CRC_16_OF(f, i + 48)
#define PM_CRC_ALL_OF(f) PM_CRC_64_OF(f, 0), PM_CRC_64_OF(f, 64), PM_CRC_64_OF(f, 128), PM_CRC_64_OF(f, 192)

static const __u32 pm_crc_table[4][256] = {
	{ PM_CRC_ALL_OF(PM_CRC_0) },
	{ PM_CRC_ALL_OF(PM_CRC_1) },
	{ PM_CRC_ALL_OF(PM_CRC_2) },
	{ PM_CRC_ALL_OF(PM_CRC_3) },
};

pm_inline __u32 pm_crc_word(__u32 crc, __u32 word)
{
	crc ^= word;
	return pm_crc_table[3][crc & 255] ^ pm_crc_table[2][crc >> 8 & 255] ^ pm_crc_table[1][crc >> 16 & 255] ^
	       pm_crc_table[0][crc >> 24];
}

pm_inline __u32 pm_crc_byte(__u32 crc, __u8 byte)
{
	__u32 at = crc ^ byte;

	/* The mask comes last: Linux 6.1 knows no bounds of an exclusive or. */
	pm_opaque(at);
	return crc >> 8 ^ pm_crc_table[0][at & 255];
}

#define PM_CRC_CHUNK 32

struct pm_crc {
	PM_HOST *host;
	__u32 off;
	__u32 crc;
};

static long pm_crc_chunk(__u32 i, void *arg)
{
	struct pm_crc *c = arg;
	struct pm_frame f = pm_frame_open(c->host);
	__u32 off = c->off + i * PM_CRC_CHUNK, crc = c->crc;
	const __u8 *p;

	if (off > PM_SUM_MAX)
		return 1;
	p = f.data + off;
	if (p + PM_CRC_CHUNK > f.end)
		return 1;
	for (int k = 0; k < PM_CRC_CHUNK; k += 4)
		crc = pm_crc_word(crc, pm_load32(p + k));
	c->crc = crc;
	return 0;
}

/* The remainder after the bytes from `off` on, `crc` that before. The caller has seen to it that they are in reach. */
PM_PART __u32 pm_crc_bytes(PM_HOST *host, __u32 off, __u32 len, __u32 crc)
{
	struct pm_crc c = { .host = host, .off = off, .crc = crc };
	struct pm_frame f = pm_frame_open(host);
	const __u8 *p;

	if (off > PM_SUM_MAX || len > PM_SUM_MAX)
		return 0;
	pm_loop(len / PM_CRC_CHUNK, pm_crc_chunk, &c);
	off += len & ~(PM_CRC_CHUNK - 1);
	pm_opaque(off);
	if (off > PM_SUM_MAX)
		return 0;
	p = f.data + off;
	len &= PM_CRC_CHUNK - 1;
	for (int k = 0; k < PM_CRC_CHUNK - 1; k++) {
		if (!len || p + 1 > f.end)
			break;
		c.crc = pm_crc_byte(c.crc, *p);
		p++;
		len--;
	}
	return c.crc;
}

/* Powers of x: x^8, and each the square of the one before, so that number n is the one for 2^n bytes. */
#define PM_CRC_POWERS 16
static const __u32 pm_crc_powers[PM_CRC_POWERS] = {
	0x00800000u, 0x00008000u, 0x82f63b78u, 0x6ea2d55cu, 0x18b8ea18u, 0x510ac59au, 0xb82be955u, 0xb8fdb1e7u,
	0x88e56f72u, 0x74c360a4u, 0xe4172b16u, 0x0d65762au, 0x35d73a62u, 0x28461564u, 0xbf455269u, 0xe2ea32dcu,
};

/* The remainder of a product. */
pm_inline __u32 pm_crc_times(__u32 a, __u32 b)
{
	__u32 product = 0;

	for (int i = 0; i < 32; i++) {
		product ^= b & -(a >> 31);
		a <<= 1;
		b = b >> 1 ^ (PM_CRC_POLYNOMIAL & -(b & 1));
	}
	return product;
}

/* What a difference of remainders is `bytes` later, fewer than 2^PM_CRC_POWERS. */
PM_PART __u32 pm_crc_carry(__u32 crc, __u32 bytes)
{
	for (int n = 0; n < PM_CRC_POWERS; n++)
		if (bytes >> n & 1)
			crc = pm_crc_times(crc, pm_crc_powers[n]);
	return crc;
}
