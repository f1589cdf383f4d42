/* The functions this library stands in front of, as they are. */
#ifndef POINTSMAN_PRELOAD_REAL_H
#define POINTSMAN_PRELOAD_REAL_H

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>

static struct {
	ssize_t (*sendmsg)(int, const struct msghdr *, int);
	ssize_t (*sendto)(int, const void *, size_t, int, const struct sockaddr *, socklen_t);
	ssize_t (*recvmsg)(int, struct msghdr *, int);
	ssize_t (*recvfrom)(int, void *, size_t, int, struct sockaddr *, socklen_t *);
	int (*getsockopt)(int, int, int, void *, socklen_t *);
	int (*setsockopt)(int, int, int, const void *, socklen_t);
	FILE *(*fopen)(const char *, const char *);
	FILE *(*fopen64)(const char *, const char *);
} real;
static pthread_once_t found = PTHREAD_ONCE_INIT;

static void find(void)
{
	/* dlsym gives data pointers, and POSIX lets them be functions. */
	*(void **)&real.sendmsg = dlsym(RTLD_NEXT, "sendmsg");
	*(void **)&real.sendto = dlsym(RTLD_NEXT, "sendto");
	*(void **)&real.recvmsg = dlsym(RTLD_NEXT, "recvmsg");
	*(void **)&real.recvfrom = dlsym(RTLD_NEXT, "recvfrom");
	*(void **)&real.getsockopt = dlsym(RTLD_NEXT, "getsockopt");
	*(void **)&real.setsockopt = dlsym(RTLD_NEXT, "setsockopt");
	*(void **)&real.fopen = dlsym(RTLD_NEXT, "fopen");
	*(void **)&real.fopen64 = dlsym(RTLD_NEXT, "fopen64");
}

static void find_once(void) { pthread_once(&found, find); }

#endif
