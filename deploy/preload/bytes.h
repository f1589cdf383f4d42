/* Bytes that grow. */
#ifndef POINTSMAN_PRELOAD_BYTES_H
#define POINTSMAN_PRELOAD_BYTES_H

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { BUFFER_MIN = 16 * 1024 };

struct bytes {
	unsigned char *at;
	size_t length;
	size_t size;
};

/* Returns 0 or ENOMEM. */
static int append(struct bytes *bytes, const void *more, size_t length)
{
	if (bytes->size - bytes->length < length) {
		size_t size = bytes->size ? bytes->size : BUFFER_MIN;
		unsigned char *at;

		while (size - bytes->length < length)
			size *= 2;
		at = realloc(bytes->at, size);
		if (!at)
			return ENOMEM;
		bytes->at = at;
		bytes->size = size;
	}
	if (length)
		memcpy(bytes->at + bytes->length, more, length);
	bytes->length += length;
	return 0;
}

static void release(struct bytes *bytes)
{
	free(bytes->at);
	memset(bytes, 0, sizeof(*bytes));
}

#endif
