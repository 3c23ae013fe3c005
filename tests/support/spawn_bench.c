/*
 * Times a program as a whole: spawn to reaped, one after the other.
 *
 *   spawn_bench ROUNDS PROGRAM [ARGUMENT]...
 *
 * Prints the microseconds of each round, a line each. Fails when the program
 * does. Its outputs are thrown away, but for errors of the first round.
 */
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/clock.h"

extern char **environ;

int
main(int argc, char **argv)
{
    long rounds = argc > 2 ? atol(argv[1]) : 0;
    posix_spawn_file_actions_t quiet;

    if (rounds < 1 || rounds > 100000) {
        fprintf(stderr, "usage: spawn_bench ROUNDS PROGRAM [ARGUMENT]...\n");
        return 2;
    }
    posix_spawn_file_actions_init(&quiet);
    posix_spawn_file_actions_addopen(&quiet, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&quiet, 1, "/dev/null", O_WRONLY, 0);
    for (long i = 0; i < rounds; i++) {
        int64_t begun = ag_mono_us();
        int status = 0, rc;
        pid_t pid;

        rc = posix_spawnp(&pid, argv[2], &quiet, NULL, argv + 2, environ);
        if (rc != 0 || waitpid(pid, &status, 0) != pid || status != 0) {
            fprintf(stderr, "spawn_bench: %s: %s, status %d\n", argv[2],
                    strerror(rc), status);
            return 1;
        }
        printf("%lld\n", (long long)(ag_mono_us() - begun));
    }
    posix_spawn_file_actions_destroy(&quiet);
    return 0;
}
