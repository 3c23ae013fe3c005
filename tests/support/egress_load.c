/*
 * Load on a TLS listener at a unix socket: so many connections, each with one
 * request after the other on a connection that is kept as long as the listener
 * keeps it, for so many seconds.
 *
 *   egress_load SOCKET NAME CA_FILE WORKLOAD CONNECTIONS SECONDS HEADER [PATH]
 *
 * SOCKET is a path, or a port of 127.0.0.1; WORKLOAD the address for a PROXY v2
 * header, or "-" for none. Prints requests a second and the median time of one
 * request in microseconds; with PATH, megabytes a second of one download of it.
 * An answer that is not 200 ends it with status 1: a fast refusal is no figure.
 * For tests/bench/egress_bench.py; threads block, nothing else is shared.
 */
#include <arpa/inet.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/str.h"

#define CONNECTIONS_MAX 256
#define TIMES_MAX 400000

static struct {
    const char *socket, *name, *workload;
    char request[1024];
    size_t request_n;
    int64_t end_us;
    SSL_CTX *tls;
    atomic_bool is_wrong;
} load;

struct worker {
    pthread_t thread;
    int32_t *times_us;
    size_t n;
};

static int
dial(void)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    struct sockaddr_in in = {.sin_family = AF_INET};
    bool is_unix = load.socket[0] == '/';
    int fd = socket(is_unix ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    in.sin_port = htons((uint16_t)strtoul(load.socket, NULL, 10));
    (void)snprintf(to.sun_path, sizeof(to.sun_path), "%s", load.socket);
    if (fd >= 0
        && connect(fd, is_unix ? (struct sockaddr *)&to
                               : (struct sockaddr *)&in,
                   is_unix ? sizeof(to) : sizeof(in))
               == 0)
        return fd;
    perror("egress_load: connect");
    exit(1);
}

/* PROXY v2: the workload asks port 443 of somebody. */
static void
send_proxy_header(int fd)
{
    unsigned char h[52] = "\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x24";

    if (strcmp(load.workload, "-") == 0)
        return;
    ag_assert(inet_pton(AF_INET6, load.workload, h + 16) == 1);
    ag_assert(inet_pton(AF_INET6, "fd00::1", h + 32) == 1);
    h[48] = 156;
    h[49] = 64;
    h[50] = 443 >> 8;
    h[51] = 443 & 255;
    ag_assert(write(fd, h, sizeof(h)) == sizeof(h));
}

/* Reads one answer with a content-length; false when it is not 200. */
static bool
read_answer(SSL *ssl, bool *is_last)
{
    char buf[16384];
    size_t n = 0, want = 0;

    while (n == 0 || n < want) {
        int got = SSL_read(ssl, buf + n, (int)(sizeof(buf) - 1 - n));
        char *head_end, *length;

        if (got <= 0) {
            fprintf(stderr, "egress_load: the connection ended\n");
            return false;
        }
        n += (size_t)got;
        buf[n] = '\0';
        if (want != 0)
            continue;
        head_end = strstr(buf, "\r\n\r\n");
        length = strcasestr(buf, "\r\ncontent-length:");
        if (strncmp(buf, "HTTP/1.1 200", 12) != 0)
            break;
        if (head_end == NULL)
            continue;
        if (length == NULL || length > head_end)
            break;
        want = (size_t)(head_end + 4 - buf)
               + (size_t)strtoul(length + 17, NULL, 10);
        if (want >= sizeof(buf))
            break;
    }
    *is_last = strcasestr(buf, "\r\nconnection: close\r\n") != NULL;
    if (want != 0 && n == want)
        return true;
    fprintf(stderr, "egress_load: answered %.300s\n", buf);
    return false;
}

static SSL *
open_connection(void)
{
    int fd = dial();
    SSL *ssl = SSL_new(load.tls);

    send_proxy_header(fd);
    SSL_set_fd(ssl, fd);
    SSL_set_tlsext_host_name(ssl, load.name);
    if (SSL_set1_host(ssl, load.name) != 1 || SSL_connect(ssl) != 1) {
        fprintf(stderr, "egress_load: no TLS with %s\n", load.name);
        load.is_wrong = true;
    }
    return ssl;
}

static void
close_connection(SSL *ssl)
{
    int fd = SSL_get_fd(ssl);

    SSL_free(ssl);
    (void)close(fd);
}

static void *
work(void *arg)
{
    struct worker *w = arg;
    SSL *ssl = open_connection();

    while (!load.is_wrong && ag_mono_us() < load.end_us
           && w->n < TIMES_MAX) {
        int64_t begun_us = ag_mono_us();
        bool is_last = false;

        if (SSL_write(ssl, load.request, (int)load.request_n) <= 0
            || !read_answer(ssl, &is_last))
            load.is_wrong = true;
        w->times_us[w->n++] = (int32_t)(ag_mono_us() - begun_us);
        if (is_last) {
            close_connection(ssl);
            ssl = open_connection();
        }
    }
    close_connection(ssl);
    return NULL;
}

static int
compare(const void *a, const void *b)
{
    return *(const int32_t *)a - *(const int32_t *)b;
}

static void
run(size_t connections, int64_t seconds)
{
    static struct worker w[CONNECTIONS_MAX];
    int32_t *all;
    size_t n = 0;

    load.end_us = ag_mono_us() + seconds * 1000000;
    for (size_t i = 0; i < connections; i++) {
        w[i].times_us = ag_xcalloc(TIMES_MAX, sizeof(int32_t));
        ag_assert(pthread_create(&w[i].thread, NULL, work, &w[i]) == 0);
    }
    for (size_t i = 0; i < connections; i++) {
        (void)pthread_join(w[i].thread, NULL);
        n += w[i].n;
    }
    if (load.is_wrong || n == 0)
        exit(1);
    all = ag_xcalloc(n, sizeof(*all));
    for (size_t i = 0, at = 0; i < connections; at += w[i++].n)
        memcpy(all + at, w[i].times_us, w[i].n * sizeof(*all));
    qsort(all, n, sizeof(*all), compare);
    printf("%.0f %d\n", (double)n / (double)seconds, all[n / 2]);
}

/* One answer, read to the end of its connection. */
static int
download(void)
{
    static char buf[1 << 18];
    SSL *ssl = open_connection();
    int64_t begun_us = ag_mono_us(), sum = 0;
    int n;

    if (load.is_wrong
        || SSL_write(ssl, load.request, (int)load.request_n) <= 0)
        return 1;
    while ((n = SSL_read(ssl, buf, sizeof(buf))) > 0) {
        if (sum == 0 && strncmp(buf, "HTTP/1.1 200", 12) != 0) {
            fprintf(stderr, "egress_load: answered %.300s\n", buf);
            return 1;
        }
        sum += n;
    }
    printf("%.1f %lld\n", (double)sum / (double)(ag_mono_us() - begun_us),
           (long long)sum);
    close_connection(ssl);
    return 0;
}

int
main(int argc, char **argv)
{
    int64_t connections, seconds;

    if ((argc != 8 && argc != 9) || ag_str_i64(ag_str(argv[5]), &connections) < 0
        || ag_str_i64(ag_str(argv[6]), &seconds) < 0 || connections < 1
        || connections > CONNECTIONS_MAX || seconds < 1) {
        fprintf(stderr, "usage: egress_load SOCKET NAME CA_FILE WORKLOAD "
                        "CONNECTIONS SECONDS HEADER [PATH]\n");
        return 2;
    }
    load.socket = argv[1];
    load.name = argv[2];
    load.workload = argv[4];
    load.request_n = (size_t)snprintf(
        load.request, sizeof(load.request),
        "GET %s HTTP/1.1\r\nHost: %s\r\n%s\r\n%s\r\n",
        argc == 9 ? argv[8] : "/answer.json", argv[2], argv[7],
        argc == 9 ? "Connection: close\r\n" : "");
    ag_assert(load.request_n < sizeof(load.request));
    load.tls = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_verify(load.tls, SSL_VERIFY_PEER, NULL);
    if (SSL_CTX_load_verify_locations(load.tls, argv[3], NULL) != 1) {
        fprintf(stderr, "egress_load: %s holds no certificate\n", argv[3]);
        return 1;
    }
    if (argc == 9)
        return download();
    run((size_t)connections, seconds);
    return 0;
}
