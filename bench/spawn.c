/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Starts commands in turns, all in the same way, and prints the wall time of each from start to end.
 *
 *     spawn ROUNDS COMMAND... [-- COMMAND...]...
 *
 * One line per round: nanoseconds of each command, in order. Standard output of the commands goes to
 * /dev/null; a command that does not exit with 0 ends everything.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

extern char **environ;

enum { COMMANDS_MAX = 8 };

static long long now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static long long run(char **argv, posix_spawn_file_actions_t *actions)
{
	long long started = now_ns();
	int status, err;
	pid_t pid;

	err = posix_spawn(&pid, argv[0], actions, NULL, argv, environ);
	if (err) {
		fprintf(stderr, "spawn: cannot start %s: %s\n", argv[0], strerror(err));
		exit(1);
	}
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status) || WEXITSTATUS(status)) {
		fprintf(stderr, "spawn: %s ended with wait status %d\n", argv[0], status);
		exit(1);
	}
	return now_ns() - started;
}

int main(int argc, char **argv)
{
	posix_spawn_file_actions_t actions;
	char **commands[COMMANDS_MAX];
	int count = 0, rounds;

	if (argc < 3) {
		fprintf(stderr, "usage: spawn ROUNDS COMMAND... [-- COMMAND...]...\n");
		return 2;
	}
	rounds = atoi(argv[1]);
	commands[count++] = argv + 2;
	for (int i = 2; i < argc; i++) {
		if (strcmp(argv[i], "--"))
			continue;
		argv[i] = NULL;
		if (count == COMMANDS_MAX || i + 1 == argc)
			return 2;
		commands[count++] = argv + i + 1;
	}
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
	for (int round = 0; round < rounds; round++) {
		for (int i = 0; i < count; i++)
			printf("%s%lld", i ? " " : "", run(commands[i], &actions));
		putchar('\n');
	}
	return 0;
}
