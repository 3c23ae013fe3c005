/*
 * Times the launcher alone, as its one client.
 *
 *   launcher_bench SOCKET cold ROUNDS LIMITS   build a sandbox, run /bin/true,
 *       destroy it, wait until nothing is left; microseconds of each, a line a
 *       round
 *   launcher_bench SOCKET hold COUNT LIMITS    build so many, print "built N in
 *       MS ms", and keep them until standard input ends
 *
 * LIMITS: 1 for those of the service's defaults, 0 for none.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/err.h"
#include "lib/id.h"
#include "lib/unix.h"
#include "sandbox_svc/fdpass.h"
#include "sandbox_svc/init_proto.h"
#include "sandbox_svc/launcher_msg.h"

#define BUILDING_MAX 8
#define HOLD_MAX 20000
#define TRUE_SCRIPT "exec 9<&-\nexec /bin/true\n"

static int launcher = -1;
static bool has_limits;

static _Noreturn void
fail(const char *what)
{
    fprintf(stderr, "launcher_bench: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void
ask(enum launcher_type type, const char *id)
{
    struct launcher_request r = {.magic = LAUNCHER_MAGIC, .type = type};

    snprintf(r.sandbox_id, sizeof(r.sandbox_id), "%s", id);
    if (type == LAUNCHER_CREATE) {
        strcpy(r.image, "base");
        r.limits =
            (struct launcher_limits){.memory_bytes = 512 << 20,
                                     .cpu_milli = has_limits ? 1000 : 1000000,
                                     .pids = 256,
                                     .disk_bytes = 1 << 30,
                                     .disk_inodes = 1 << 18,
                                     .open_files = 1024};
    }
    if (fdpass_send(launcher, &r, sizeof(r), NULL, 0) < 0)
        fail("send");
}

/* The next reply; its descriptors but init's socket are closed. */
static int
reply(void)
{
    struct launcher_reply r;
    int fds[FDPASS_MAX], n = 0, init = -1;
    ssize_t got = fdpass_recv(launcher, &r, sizeof(r), fds, &n, 0);

    if (got != sizeof(r))
        fail("reply");
    if (r.error != 0) {
        fprintf(stderr, "launcher_bench: %s\n", r.text);
        exit(1);
    }
    for (int i = 0; i < n; i++) {
        if (i == LAUNCHER_FD_INIT)
            init = fds[i];
        else
            close(fds[i]);
    }
    return init;
}

static void
wait_for(int init, uint32_t type)
{
    struct init_head h;

    do {
        if (recv(init, &h, sizeof(h), 0) != sizeof(h))
            fail("init");
    } while (h.type != type);
    if (type == INIT_EXITED && (h.a != 0 || h.b != 0))
        fail("/bin/true");
}

static void
run_true(int init)
{
    static const char env[] = "PATH=/usr/bin:/bin";
    struct {
        struct init_head head;
        char env[sizeof(env)];
    } m = {{INIT_MAGIC, INIT_ARM, 1, 1, 1}, ""};
    int null = open("/dev/null", O_RDWR | O_CLOEXEC), script[2];

    memcpy(m.env, env, sizeof(env));
    /* The shell opens it again, as another user. */
    if (null < 0 || pipe2(script, O_CLOEXEC) < 0 || fchmod(script[0], 0666) < 0
        || write(script[1], TRUE_SCRIPT, strlen(TRUE_SCRIPT)) < 0)
        fail("script");
    int fds[INIT_ARM_FDS] = {null, null, null, script[0]};
    if (fdpass_send(init, &m, sizeof(m.head) + sizeof(env), fds, INIT_ARM_FDS)
        < 0)
        fail("run");
    close(null);
    close(script[0]);
    close(script[1]);
    wait_for(init, INIT_EXITED);
}

static void
cold(long rounds)
{
    char id[AG_ID_TEXT];

    for (long i = 0; i < rounds; i++) {
        int64_t begun = ag_mono_us();
        ag_id_new("sbx", id);
        ask(LAUNCHER_CREATE, id);
        int init = reply();
        (void)fcntl(init, F_SETFL, 0);
        run_true(init);
        ask(LAUNCHER_DESTROY, id);
        reply();
        printf("%lld\n", (long long)(ag_mono_us() - begun));
        close(init);
    }
}

static void
hold(long count)
{
    char id[AG_ID_TEXT], byte;
    long asked = 0, made = 0;
    int64_t begun = ag_mono_us();

    while (made < count) {
        while (asked < count && asked - made < BUILDING_MAX) {
            ag_id_new("sbx", id);
            ask(LAUNCHER_CREATE, id);
            asked++;
        }
        /* Kept open: a sandbox lives as long as its socket. */
        (void)reply();
        made++;
    }
    printf("built %ld in %lld ms\n", made,
           (long long)(ag_mono_us() - begun) / 1000);
    fflush(stdout);
    while (read(0, &byte, 1) > 0)
        ;
}

int
main(int argc, char **argv)
{
    struct ag_err err = AG_ERR_INIT;
    struct rlimit r;
    long n = argc == 5 ? atol(argv[3]) : 0;

    if (n < 1 || n > HOLD_MAX) {
        fprintf(stderr,
                "usage: launcher_bench SOCKET cold|hold COUNT LIMITS\n");
        return 2;
    }
    if (getrlimit(RLIMIT_NOFILE, &r) == 0) {
        r.rlim_cur = r.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &r);
    }
    has_limits = strcmp(argv[4], "1") == 0;
    launcher = ag_unix_connect(argv[1], SOCK_SEQPACKET, &err);
    if (launcher < 0) {
        fprintf(stderr, "launcher_bench: %s\n", err.msg);
        return 1;
    }
    (void)fcntl(launcher, F_SETFL, 0);
    if (strcmp(argv[2], "cold") == 0)
        cold(n);
    else
        hold(n);
    return 0;
}
