/*
 * Preloaded into Debian's own ipvsadm so that it runs where the kernel has no IPVS.
 *
 * It stands in for the kernel at the edge of libnl: every request ipvsadm would send is
 * accepted, written to $ORACLE_LOG as one line of hex (the generic netlink command and its
 * attributes), and answered from $ORACLE_DIR. A file `errno` there holds the error number
 * with which requests are refused; `services`, `dests` and `daemons` hold netlink messages,
 * each preceded by its length, and `connections` what /proc/net/ip_vs_conn would.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <linux/genetlink.h>
#include <linux/netlink.h>
#include <netdb.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct nl_sock;
struct nl_msg;
struct nlmsghdr *nlmsg_hdr(struct nl_msg *msg);
struct nl_msg *nlmsg_convert(struct nlmsghdr *header);
void nlmsg_free(struct nl_msg *msg);
int __nss_configure_lookup(const char *database, const char *services);

enum { CMD_GET_SERVICE = 4, CMD_NEW_DEST = 5, CMD_GET_DEST = 8, CMD_NEW_DAEMON = 9, CMD_GET_DAEMON = 11,
       CMD_SET_CONFIG = 12, CMD_GET_CONFIG = 13, CMD_SET_INFO = 14, CMD_GET_INFO = 15 };
enum { FAMILY = 0x1d, NLE_OK = 0, VALID = 0 };

static int (*on_valid)(struct nl_msg *, void *);
static void *on_valid_arg;
static int (*on_error)(struct sockaddr_nl *, struct nlmsgerr *, void *);
static void *on_error_arg;
static unsigned char request[65536];
static uint32_t request_length;

int genl_connect(struct nl_sock *sock) { (void)sock; return 0; }
int genl_ctrl_resolve(struct nl_sock *sock, const char *name) { (void)sock; (void)name; return FAMILY; }

int nl_socket_modify_cb(struct nl_sock *sock, int type, int kind, int (*func)(struct nl_msg *, void *), void *arg)
{
	(void)sock; (void)kind;
	if (type == VALID) {
		on_valid = func;
		on_valid_arg = arg;
	}
	return 0;
}

int nl_socket_modify_err_cb(struct nl_sock *sock, int kind,
			    int (*func)(struct sockaddr_nl *, struct nlmsgerr *, void *), void *arg)
{
	(void)sock; (void)kind;
	on_error = func;
	on_error_arg = arg;
	return 0;
}

int nl_send_auto_complete(struct nl_sock *sock, struct nl_msg *msg)
{
	struct nlmsghdr *header = nlmsg_hdr(msg);

	(void)sock;
	request_length = header->nlmsg_len;
	if (request_length > sizeof(request))
		abort();
	memcpy(request, header, request_length);
	return (int)request_length;
}

static void log_request(void)
{
	const char *path = getenv("ORACLE_LOG");
	FILE *file = path ? fopen(path, "a") : NULL;

	if (!file)
		return;
	for (uint32_t i = NLMSG_HDRLEN; i < request_length; i++)
		fprintf(file, "%02x", request[i]);
	fputc('\n', file);
	fclose(file);
}

static FILE *open_answer(const char *name)
{
	const char *dir = getenv("ORACLE_DIR");
	char path[4096];

	if (!dir)
		return NULL;
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return fopen(path, "r");
}

static void deliver(struct nlmsghdr *header)
{
	struct nl_msg *msg = nlmsg_convert(header);

	on_valid(msg, on_valid_arg);
	nlmsg_free(msg);
}

static int deliver_file(const char *name)
{
	static union { struct nlmsghdr header; char bytes[65536]; } message;
	FILE *file = open_answer(name);
	uint32_t length;

	if (!file)
		return 0;
	while (fread(&length, sizeof(length), 1, file) == 1 && length <= sizeof(message)) {
		if (fread(message.bytes, 1, length, file) != length)
			abort();
		deliver(&message.header);
	}
	fclose(file);
	return 1;
}

static void deliver_words(int command, const uint32_t *types, const uint32_t *values, int count)
{
	struct {
		struct nlmsghdr header;
		struct genlmsghdr generic;
		struct { struct nlattr attr; uint32_t value; } words[3];
	} message = { 0 };

	message.header.nlmsg_len = NLMSG_HDRLEN + GENL_HDRLEN + (uint32_t)count * 8;
	message.header.nlmsg_type = FAMILY;
	message.generic.cmd = (uint8_t)command;
	message.generic.version = 1;
	for (int i = 0; i < count; i++) {
		message.words[i].attr.nla_len = 8;
		message.words[i].attr.nla_type = (uint16_t)types[i];
		message.words[i].value = values[i];
	}
	deliver(&message.header);
}

static int refuse(int number)
{
	struct nlmsgerr error = { .error = -number };
	struct sockaddr_nl address = { .nl_family = AF_NETLINK };

	return on_error(&address, &error, on_error_arg);
}

static int refusal(void)
{
	FILE *file = open_answer("errno");
	int number;

	if (!file)
		return NLE_OK;
	if (fscanf(file, "%d", &number) != 1)
		abort();
	fclose(file);
	return refuse(number);
}

/* Names come from files only: what the network knows is no part of the comparison. */
__attribute__((constructor)) static void names_from_files(void)
{
	__nss_configure_lookup("hosts", "files");
}

int nl_recvmsgs_default(struct nl_sock *sock)
{
	int command = ((struct genlmsghdr *)(request + NLMSG_HDRLEN))->cmd;

	(void)sock;
	switch (command) {
	case CMD_GET_INFO:
		deliver_words(CMD_SET_INFO, (uint32_t[]){ 1, 2 }, (uint32_t[]){ 0x010201, 4096 }, 2);
		return NLE_OK;
	case CMD_GET_CONFIG:
		deliver_words(CMD_SET_CONFIG, (uint32_t[]){ 4, 5, 6 }, (uint32_t[]){ 900, 120, 300 }, 3);
		return NLE_OK;
	case CMD_GET_SERVICE:
		/* Asked for one service, the kernel has it or says so; asked for all, it may have none. */
		if (!deliver_file("services") && !(((struct nlmsghdr *)request)->nlmsg_flags & NLM_F_DUMP))
			return refuse(ESRCH);
		return refusal();
	case CMD_GET_DEST:
		deliver_file("dests");
		return NLE_OK;
	case CMD_GET_DAEMON:
		deliver_file("daemons");
		return NLE_OK;
	default:
		log_request();
		return refusal();
	}
}

/* The connection list comes from /proc, not from netlink. */
FILE *fopen(const char *path, const char *mode)
{
	static FILE *(*real)(const char *, const char *);

	if (!real)
		real = (FILE * (*)(const char *, const char *))dlsym(RTLD_NEXT, "fopen");
	if (strcmp(path, "/proc/net/ip_vs_conn") == 0) {
		FILE *file = open_answer("connections");

		return file ? file : real("/dev/null", mode);
	}
	return real(path, mode);
}
