/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * The persistence engine of SIP (dataplane.md §5): beside the client's address it is the call that leads to a real
 * server, known by its Call-ID (RFC 3261 §20.8). Of a message it is looked for when there is no connection yet; what
 * is a header and what a value follows IPVS, which takes lines that end with CR, LF or both, and is otherwise strict.
 *
 * A template is found by 31 bits of a keyed hash of the Call-ID, which stand in its line where others have a port and
 * a next hop. Two calls of one client that agree in them go to the same real server, which does no harm. The bytes are
 * for lists only (call_ids), so that as many calls can be under way as there are lines.
 */
#pragma once

#include "gate.h"

#define PM_CALL_TEXT 32 /* bytes that are looked at together */

/*
 * Looks at a message: a line needs one, and one more for each 32 bytes of it. Enough for 9000 bytes of lines as they
 * are, and some 30 us at most.
 */
#define PM_CALL_LOOKS 2048

/* A header of the name without a value is none: the search goes on, as often as this. */
#define PM_CALL_TRIES 4

/* The message under treatment. */
struct pm_call {
	__u64 text[PM_CALL_TEXT / 8];
	__u64 id[(PM_CALL_ID_MAX + 1) / 8]; /* and what follows it */
	__u32 length;
	__u32 hash;
	struct pm_key key; /* between parts of the program: of the packet, or of what its other side sends */
};

PM_DEFINE_ROOM(call_room, struct pm_call)

#ifdef __bpf__
#ifdef PM_SKB
#define pm_host_read(host, off, to, bytes) bpf_skb_load_bytes((host), (off), (to), (bytes))
#else
#define pm_host_read(host, off, to, bytes) bpf_xdp_load_bytes((host), (off), (to), (bytes))
#endif
/* Wherever the bytes lie, they can be read. */
#define pm_is_readable(f) ((void)(f), 1)
#else
pm_inline int pm_host_read(const struct pm_job *job, __u32 off, void *to, __u32 bytes)
{
	if (off > job->linear || bytes > job->linear - off)
		return -1;
	__builtin_memcpy(to, PM_FRAME_AT(job->data + job->moved) + off, bytes);
	return 0;
}

#define pm_is_readable(f) (pm_reach(f) == (f)->length)
#endif

/* Whether it is calls that this service's templates are for. */
pm_inline int pm_is_by_call(const struct pm_service *service)
{
	return service->pe == PM_ENGINE_SIP && (service->flags & PM_SERVICE_PERSISTENT);
}

/* What the key of a template has for the call under treatment: its tag is in the low half. Others have none. */
pm_inline __u32 pm_call_of(const struct pm_service *service)
{
	const struct pm_call *call;

	if (pm_likely(!pm_is_by_call(service)))
		return 0;
	call = pm_call_room();
	return call ? call->hash | 1 : 1;
}

/* The same into a key, at once: a number less to be kept. */
pm_inline void pm_call_into(struct pm_key *t, __u32 call)
{
	t->sport = call >> 16;
	t->tag = call;
	pm_stored(*t);
}

enum pm_call_phase {
	PM_CALL_WITHIN, /* a line */
	PM_CALL_LINE,	/* at its beginning */
	PM_CALL_NAME,	/* behind the name of the header */
	PM_CALL_COLON,	/* behind the colon */
	PM_CALL_VALUE,
	PM_CALL_NONE,
};

struct pm_reading {
	PM_HOST *host;
	__u32 off;
	__u32 end;
	__u32 phase;  /* enum pm_call_phase */
	__u32 folded; /* the header goes on in the line below it */
};

/* The next bytes of the message, zeros behind its end. */
pm_inline int pm_read_text(const struct pm_reading *s, struct pm_call *call)
{
	__u32 off = s->off, end = s->end, bytes;

#pragma unroll
	for (int i = 0; i < PM_CALL_TEXT / 8; i++)
		call->text[i] = 0;
	if (off >= end)
		return 0;
	bytes = end - off;
	if (bytes > PM_CALL_TEXT)
		bytes = PM_CALL_TEXT;
	bytes = ((bytes - 1) & (PM_CALL_TEXT - 1)) + 1;
	return !pm_host_read(s->host, off, call->text, bytes);
}

#define PM_EACH_BYTE 0x0101010101010101ull

/* The highest bit of each byte that is `byte`, exactly. */
pm_inline __u64 pm_bytes_that_are(__u64 word, __u8 byte)
{
	__u64 differs = word ^ byte * PM_EACH_BYTE;

	return ~(((differs & 0x7f * PM_EACH_BYTE) + 0x7f * PM_EACH_BYTE) | differs | 0x7f * PM_EACH_BYTE);
}

/* Where the first end of a line is; PM_CALL_TEXT: nowhere. Not at the very first byte, if that begins one. */
pm_inline __u32 pm_line_end(const struct pm_call *call, __u32 first)
{
#pragma unroll
	for (__u32 i = 0; i < PM_CALL_TEXT / 8; i++) {
		__u64 word = call->text[i], ends = pm_bytes_that_are(word, '\n') | pm_bytes_that_are(word, '\r');

		if (!i && first)
			ends &= ~0xffull;
		/* Of the lowest, the bits below it: so many whole bytes. */
		if (ends)
			return i * 8 + (((((ends & -ends) - 1) & PM_EACH_BYTE) * PM_EACH_BYTE) >> 56) - 1;
	}
	return PM_CALL_TEXT;
}

pm_inline int pm_is_letter(__u8 c)
{
	__u8 small = c | 0x20;

	return (small >= 'a' && small <= 'z') || (c >= 0xc0 && c != 0xd7 && c != 0xf7);
}

/* How long the header's name is that the text begins with, if it is ours: "Call-ID" or, compact, "i". */
pm_inline __u32 pm_name_length(const struct pm_call *call)
{
	const __u8 *text = (const __u8 *)call->text;

	/* "call-id", whichever case its letters have. */
	if (((call->text[0] | 0x0020200020202020ull) & 0x00ffffffffffffffull) == 0x0064692d6c6c6163ull)
		return 7;
	return (text[0] | 0x20) == 'i' && !pm_is_letter(text[1]) ? 1 : 0;
}

pm_inline int pm_is_blank(__u8 c)
{
	return c == ' ' || c == '\t';
}

pm_inline int pm_is_line_end(__u8 c)
{
	return c == '\r' || c == '\n';
}

/* Behind a header's name, or its colon: blanks, and one fold, up to what comes then. */
pm_inline long pm_read_header(struct pm_reading *s, const __u8 *text)
{
	__u32 n = text[0] == '\r' && text[1] == '\n' ? 2 : 1;

	if (pm_is_blank(text[0])) {
		s->off++;
		return 0;
	}
	if (pm_is_line_end(text[0]) && !s->folded) {
		s->folded = 1;
		s->off += n;
		s->phase = pm_is_blank(text[n]) ? s->phase : PM_CALL_NONE;
		return s->phase == PM_CALL_NONE;
	}
	if (s->phase == PM_CALL_COLON) {
		s->phase = PM_CALL_VALUE;
		return 1;
	}
	s->off++;
	s->folded = 0;
	s->phase = text[0] == ':' ? PM_CALL_COLON : PM_CALL_NONE;
	return s->phase == PM_CALL_NONE;
}

static long pm_look_at_text(__u32 i, void *arg)
{
	struct pm_reading *s = arg;
	struct pm_call *call = pm_call_room();
	const __u8 *text;
	__u32 at;

	(void)i;
	if (!call || !pm_read_text(s, call))
		return 1;
	text = (const __u8 *)call->text;
	if (s->phase > PM_CALL_LINE)
		return pm_read_header(s, text);
	if (s->phase == PM_CALL_LINE) {
		__u32 name = pm_name_length(call);

		if (name) {
			s->off += name;
			s->folded = 0;
			s->phase = PM_CALL_NAME;
			return 0;
		}
	}
	at = pm_line_end(call, s->phase);
	s->phase = PM_CALL_WITHIN;
	if (at >= PM_CALL_TEXT - 1) {
		/* What follows is to be seen with it. */
		s->off += at;
		return 0;
	}
	at &= PM_CALL_TEXT - 1;
	s->off += at + 1;
	if (text[at] == '\r' && text[(at + 1) & (PM_CALL_TEXT - 1)] == '\n')
		s->off++;
	s->phase = PM_CALL_LINE;
	return 0;
}

/* RFC 3261 §25.1: callid = word ["@" word]. The characters of a word, a bit for each: of the first 64, of those from @. */
#define PM_WORD_LOW 0xd7ffefa600000000ull
#define PM_WORD_HIGH 0x6fffffffbffffffeull

pm_inline int pm_is_word(__u8 c)
{
	if (c < 64)
		return PM_WORD_LOW >> c & 1;
	if (c < 128)
		return PM_WORD_HIGH >> (c - 64) & 1;
	return pm_is_letter(c);
}

struct pm_value {
	struct pm_call *call;
	__u64 hash;
	__u32 length;
	__u32 word; /* bytes of the word that it ends with */
	__u32 host; /* the @ has come */
};

static long pm_look_at_value(__u32 i, void *arg)
{
	struct pm_value *v = arg;
	struct pm_call *call = pm_call_room();
	__u8 c;

	if (!call || i > PM_CALL_ID_MAX)
		return 1;
	c = ((const __u8 *)call->id)[i & PM_CALL_ID_MAX];
	if (pm_is_word(c)) {
		v->word++;
	} else if (c == '@' && !v->host && v->word) {
		v->host = 1;
		v->word = 0;
	} else {
		return 1;
	}
	v->length++;
	v->hash = pm_stir(v->hash, c);
	return 0;
}

/* The value at this place: 1; 0: there is none; -1: nor does the search go on. */
pm_inline int pm_read_value(const struct pm_reading *s, struct pm_call *call, __u32 seed)
{
	__u32 off = s->off, end = s->end, bytes;
	struct pm_value v = { .hash = seed };
	__u8 next;

#pragma unroll
	for (int i = 0; i < (PM_CALL_ID_MAX + 1) / 8; i++)
		call->id[i] = 0;
	if (off >= end)
		return -1;
	bytes = end - off - 1;
	if (bytes > PM_CALL_ID_MAX)
		bytes = PM_CALL_ID_MAX;
	bytes = (bytes & PM_CALL_ID_MAX) + 1;
	if (pm_host_read(s->host, off, call->id, bytes))
		return -1;
	pm_unknown(v.hash, seed);
	pm_unknown(v.length, seed);
	pm_unknown(v.word, seed);
	pm_unknown(v.host, seed);
	pm_loop(PM_CALL_ID_MAX + 1, pm_look_at_value, &v);
	if (!v.word)
		return 0;
	if (v.length > PM_CALL_ID_MAX)
		return -1;
	next = ((const __u8 *)call->id)[v.length & PM_CALL_ID_MAX];
	if (!pm_is_line_end(next))
		return -1;
	call->length = v.length;
	call->hash = v.hash ^ v.hash >> 32;
	return 1;
}

/*
 * The first header of the name in these bytes of the frame, and its value into this CPU's room: PM_CONTINUE; a verdict;
 * PM_CALL_EMPTY, and in the high half where the value should be.
 */
#define PM_CALL_EMPTY 0xffu
PM_PART __u64 pm_read_call_once(PM_HOST *host, __u32 from, __u32 end)
{
	struct pm_reading s = { .host = host, .off = from, .end = end, .phase = PM_CALL_WITHIN };
	struct pm_settings *set = pm_settings(0);
	struct pm_call *call = pm_call_room();
	int found;

	if (!call || !set)
		return PM_DROP_MAP;
	pm_unknown(s.phase, set->hash_seed);
	pm_unknown(s.folded, set->hash_seed);
	pm_loop(PM_CALL_LOOKS, pm_look_at_text, &s);
	if (s.phase != PM_CALL_VALUE)
		return PM_DROP_NO_CALL_ID;
	found = pm_read_value(&s, call, set->hash_seed);
	if (found)
		return found > 0 ? PM_CONTINUE : PM_DROP_NO_CALL_ID;
	return (__u64)s.off << 32 | PM_CALL_EMPTY;
}

/* The Call-ID of the message at these bytes of the frame: PM_CONTINUE, or the verdict. */
PM_PART __u32 pm_read_call(PM_HOST *host, __u32 off, __u32 end)
{
	__u64 found = PM_CALL_EMPTY;
	__u32 from = off;

	for (int n = 0; n < PM_CALL_TRIES && (__u32)found == PM_CALL_EMPTY; n++) {
		found = pm_read_call_once(host, from, end);
		/* So IPVS goes on: by as much as it has come from the message's beginning. */
		from += (found >> 32) - off;
	}
	return (__u32)found == PM_CALL_EMPTY ? PM_DROP_NO_CALL_ID : (__u32)found;
}

/* The same of a packet for a service that has an engine. Nothing has been counted yet. */
pm_inline enum pm_verdict pm_find_call(struct pm_frame *f, const struct pm_packet *p, const struct pm_service *service)
{
	if (pm_unsupported(service))
		return PM_PASS_UNSUPPORTED;
	if (!pm_is_by_call(service))
		return PM_CONTINUE;
	if (p->key.protocol != PM_PROTO_UDP)
		return PM_DROP_NO_CALL_ID;
	if (!pm_is_readable(f))
		return PM_WANT_PAYLOAD;
	return pm_read_call(f->host, p->l4 + PM_UDP_LEN, PM_ETH_LEN + p->ip_length);
}

/* Whether the template that a record was written for is still there. */
pm_inline int pm_is_listed(const struct pm_call_id *r)
{
	__u32 line = pm_read(r->line), index = line & ~PM_CALL_ID_IPV6;
	struct pm_conn *c = line & PM_CALL_ID_IPV6 ? pm_line(6, index) : pm_line(4, index);
	__u64 head = c ? pm_head(c) : 0;

	return pm_is_live(head) && !(((__u32)head ^ pm_read(r->word)) & PM_CONN_GENERATIONS);
}

/*
 * Writes down the Call-ID of the packet under treatment for the template in this line, claimed with `word`. In sets of
 * PM_WAYS; where all are taken, one gives way, and its template is listed without.
 */
PM_PART int pm_note_call(__u32 line, __u32 word)
{
	const struct pm_call *call = pm_call_room();
	__u32 first = line % (PM_CALL_IDS / PM_WAYS) * PM_WAYS, way = line / (PM_CALL_IDS / PM_WAYS) % PM_WAYS;
	struct pm_call_id *r;
	__u32 version;

	for (__u32 i = 0; i < PM_WAYS; i++) {
		r = pm_call_ids(first + i);
		/* Whoever writes to a record may have been killed. */
		if (r && !(pm_read(r->version) & 1) && !pm_is_listed(r)) {
			way = i;
			break;
		}
	}
	r = pm_call_ids(first + way % PM_WAYS);
	if (!r || !call)
		return 0;
	version = pm_read(r->version);
	if ((version & 1) || !pm_swap(&r->version, version, version + 1))
		return 0;
	pm_write(r->line, line);
	pm_write(r->word, word);
	r->length = call->length;
#pragma unroll
	for (int i = 0; i < (PM_CALL_ID_MAX + 1) / 8; i++)
		r->id[i] = call->id[i];
	pm_publish(&r->version, version + 2);
	return 1;
}
