/*
 * ipvsadm: hands its arguments to pointsmand and prints what comes back.
 *
 * The grammar lives in the daemon. This is a program of its own, small and static, because
 * scripts call ipvsadm in loops and expect it to take milliseconds.
 *
 *     POST /v1/ipvsadm, one request per connection
 *     Pointsman-Argc: N        the body begins with N strings, each ended by a NUL
 *     Pointsman-Stdin: sent    the rest of the body is standard input; else `unread`
 *
 *     Pointsman-Stdin: wanted  nothing has been done: ask again with standard input
 *     Pointsman-Status: S      exit status
 *     Pointsman-Stdout: L      the first L bytes of the body belong to standard output,
 *                              the rest to standard error
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define DEFAULT_SOCKET "/run/pointsman/pointsman.sock"

/* What the original ends with where the kernel has no IPVS. */
enum { STATUS_NO_DAEMON = 2 };
enum { BUFFER_BYTES_MIN = 64 * 1024, HEADER_BYTES_MAX = 512 };

struct buffer {
	char *bytes;
	size_t length;
	size_t size;
};

struct reply {
	const char *body;
	size_t body_length;
	size_t stdout_length;
	int status;
	int wants_stdin;
};

__attribute__((noreturn, format(printf, 1, 2))) static void fail(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fputc('\n', stderr);
	exit(STATUS_NO_DAEMON);
}

static const char *socket_path(void)
{
	const char *path = getenv("POINTSMAN_SOCKET");

	return path && *path ? path : DEFAULT_SOCKET;
}

__attribute__((noreturn)) static void fail_to_connect(const char *path, int error)
{
	const char *advice = error == EACCES || error == EPERM
		? "Run ipvsadm as a user who may use this socket (root, by default)."
		: "Start one with `pointsmand --interface IF', or name its socket in POINTSMAN_SOCKET.";

	fail("Can't initialize ipvs: no pointsmand answers at %s: %s\n%s", path, strerror(error), advice);
}

static void reserve(struct buffer *buffer, size_t room)
{
	size_t size = buffer->size ? buffer->size : BUFFER_BYTES_MIN;

	while (size - buffer->length < room)
		size *= 2;
	if (size == buffer->size)
		return;
	buffer->bytes = realloc(buffer->bytes, size);
	if (!buffer->bytes)
		fail("Cannot get %zu bytes of memory", size);
	buffer->size = size;
}

static void append(struct buffer *buffer, const void *bytes, size_t length)
{
	reserve(buffer, length);
	memcpy(buffer->bytes + buffer->length, bytes, length);
	buffer->length += length;
}

/* Reads until the end. Returns 0, or the error that came first. */
static int read_all(int fd, struct buffer *buffer)
{
	for (;;) {
		ssize_t count;

		reserve(buffer, BUFFER_BYTES_MIN / 2);
		count = read(fd, buffer->bytes + buffer->length, buffer->size - buffer->length);
		if (count == 0)
			return 0;
		if (count > 0)
			buffer->length += (size_t)count;
		else if (errno != EINTR)
			return errno;
	}
}

/* A closed pipe ends the program by SIGPIPE, as it ends the original. */
static void write_all(int fd, const char *bytes, size_t length)
{
	while (length > 0) {
		ssize_t count = write(fd, bytes, length);

		if (count < 0 && errno == EINTR)
			continue;
		if (count < 0)
			return;
		bytes += count;
		length -= (size_t)count;
	}
}

static int connect_to_daemon(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	const char *path = socket_path();
	int fd;

	if (strlen(path) >= sizeof(address.sun_path))
		fail_to_connect(path, ENAMETOOLONG);
	strcpy(address.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		fail_to_connect(path, errno);
	while (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		if (errno == EISCONN)
			break;
		if (errno != EINTR)
			fail_to_connect(path, errno);
	}
	return fd;
}

/*
 * Sends as much as the daemon takes. One that refuses a request answers before it has read all
 * of it and closes; its answer is there to be read all the same.
 */
static void send_all(int fd, const char *bytes, size_t length)
{
	while (length > 0) {
		ssize_t count = send(fd, bytes, length, MSG_NOSIGNAL);

		if (count < 0 && errno == EINTR)
			continue;
		if (count < 0)
			return;
		bytes += count;
		length -= (size_t)count;
	}
}

/* Value of a header within `head`, which ends with a NUL; NULL if it is not there. */
static const char *header(const char *head, const char *name)
{
	size_t length = strlen(name);

	for (const char *line = strstr(head, "\r\n"); line; line = strstr(line, "\r\n")) {
		line += 2;
		if (strncasecmp(line, name, length) == 0 && line[length] == ':')
			return line + length + 1 + strspn(line + length + 1, " ");
	}
	return NULL;
}

static struct reply understand(struct buffer *answer)
{
	struct reply reply = { 0 };
	char *end = answer->bytes ? memmem(answer->bytes, answer->length, "\r\n\r\n", 4) : NULL;
	const char *head = answer->bytes;
	const char *value;

	if (!end)
		fail("Can't initialize ipvs: pointsmand closed the connection without an answer");
	end[2] = '\0';
	reply.body = end + 4;
	reply.body_length = answer->length - (size_t)(reply.body - answer->bytes);

	value = header(head, "content-length");
	if (value && strtoull(value, NULL, 10) != reply.body_length)
		fail("Can't initialize ipvs: pointsmand closed the connection within its answer");
	value = header(head, "pointsman-stdin");
	if (value && strncmp(value, "wanted", 6) == 0) {
		reply.wants_stdin = 1;
		return reply;
	}
	value = header(head, "pointsman-status");
	if (!value)
		fail("Can't initialize ipvs: %s is not a pointsmand this ipvsadm understands; it answers: %.*s",
		     socket_path(), (int)strcspn(head, "\r\n"), head);
	reply.status = atoi(value);
	value = header(head, "pointsman-stdout");
	reply.stdout_length = value ? strtoull(value, NULL, 10) : reply.body_length;
	if (reply.stdout_length > reply.body_length)
		reply.stdout_length = reply.body_length;
	return reply;
}

/* One question: `arguments` and, if it has been read, standard input. */
static struct reply ask(int argc, const struct buffer *arguments, const struct buffer *input,
			struct buffer *answer)
{
	char head[HEADER_BYTES_MAX];
	int length = snprintf(head, sizeof(head),
			      "POST /v1/ipvsadm HTTP/1.1\r\n"
			      "Host: pointsman\r\n"
			      "Connection: close\r\n"
			      "Content-Type: application/octet-stream\r\n"
			      "Content-Length: %zu\r\n"
			      "Pointsman-Argc: %d\r\n"
			      "Pointsman-Stdin: %s\r\n\r\n",
			      arguments->length + (input ? input->length : 0), argc, input ? "sent" : "unread");
	struct buffer request = { 0 };
	int fd = connect_to_daemon();
	int error;

	append(&request, head, (size_t)length);
	append(&request, arguments->bytes, arguments->length);
	send_all(fd, request.bytes, request.length);
	free(request.bytes);
	if (input)
		send_all(fd, input->bytes, input->length);

	answer->length = 0;
	error = read_all(fd, answer);
	close(fd);
	/* A daemon that closes before it has read everything resets the connection. */
	if (error && answer->length == 0)
		fail_to_connect(socket_path(), error);
	return understand(answer);
}

int main(int argc, char **argv)
{
	/* The script that chose this client knows by what name it was called. */
	const char *name = getenv("POINTSMAN_PROGRAM");
	struct buffer arguments = { 0 };
	struct buffer answer = { 0 };
	struct reply reply;

	reserve(&arguments, 1);
	for (int i = 0; i < argc; i++) {
		const char *argument = i == 0 && name ? name : argv[i];

		append(&arguments, argument, strlen(argument) + 1);
	}

	reply = ask(argc, &arguments, NULL, &answer);
	if (reply.wants_stdin) {
		struct buffer input = { 0 };

		/* Without standard input there is nothing to restore, which is no error. */
		(void)read_all(STDIN_FILENO, &input);
		reply = ask(argc, &arguments, &input, &answer);
		free(input.bytes);
	}
	write_all(STDOUT_FILENO, reply.body, reply.stdout_length);
	write_all(STDERR_FILENO, reply.body + reply.stdout_length, reply.body_length - reply.stdout_length);
	return reply.status;
}
