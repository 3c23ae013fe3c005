/*
 * A report is one small request on a connection of its own to egress, with the
 * sandbox's PROXY header. A sandbox gets a few a second, and all together have
 * a few at a time; what is left out is counted in the next.
 */
#include "sandbox_svc/bridge_report.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "lib/clock.h"
#include "lib/flow.h"
#include "lib/log.h"
#include "lib/unix.h"
#include "sandbox_svc/bridge_conn.h"

#define REPORTS_AT_ONCE 32
#define REPORTS_A_SECOND 5
#define TIMEOUT_MS 2000

struct bridge_report {
    struct bridge_report *next, **prev;
    struct bridge *bridge;
    struct ag_side side;
    struct ag_timer deadline;
};

#define OF(member, p)                                                    \
    ((struct bridge_report *)((char *)(p)-offsetof(struct bridge_report, \
                                                   member)))

static void
report_free(struct bridge_report *r)
{
    ag_timer_stop(r->bridge->loop, &r->deadline);
    ag_side_close(r->bridge->loop, &r->side);
    *r->prev = r->next;
    if (r->next != NULL)
        r->next->prev = r->prev;
    r->bridge->n_reports--;
    free(r);
}

/* Whatever it says, it was told. */
static void
on_answer(struct ag_io *io, uint32_t events)
{
    (void)events;
    report_free(OF(side.io, io));
}

static void
on_deadline(struct ag_timer *t)
{
    report_free(OF(deadline, t));
}

/* May this one be told? Else it is counted. */
static bool
is_due(struct bridge_sandbox *sb)
{
    int64_t now = ag_mono_us() / 1000000;

    if (sb->report_second != now) {
        sb->report_second = now;
        sb->n_reported = 0;
    }
    if (sb->n_reported < REPORTS_A_SECOND
        && sb->bridge->n_reports < REPORTS_AT_ONCE) {
        sb->n_reported++;
        return true;
    }
    sb->n_left_out++;
    return false;
}

static bool
tell(int fd, struct bridge_sandbox *sb, const char *reason, const char *name,
     uint16_t source_port, uint16_t port)
{
    unsigned char head[BRIDGE_PROXY_HEADER];
    char out[BRIDGE_PROXY_HEADER + 512];

    bridge_proxy_header(sb->address, source_port, port, head);
    memcpy(out, head, sizeof(head));
    int n = snprintf(out + sizeof(head), sizeof(out) - sizeof(head),
                     "POST /%s/%d HTTP/1.1\r\nHost: %s\r\n"
                     "Content-Length: 0\r\nConnection: close\r\n\r\n",
                     reason, 1 + sb->n_left_out,
                     *name == '\0' ? "unknown.invalid" : name);
    size_t all = sizeof(head) + (size_t)n;
    return send(fd, out, all, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)all;
}

void
bridge_report(struct bridge_sandbox *sb, const char *reason, const char *name,
              uint16_t source_port, uint16_t port)
{
    struct bridge *b = sb->bridge;
    struct ag_err err = AG_ERR_INIT;

    if (*b->egress_report == '\0' || !is_due(sb))
        return;
    int fd = ag_unix_connect(b->egress_report, SOCK_STREAM, &err);
    if (fd < 0 || !tell(fd, sb, reason, name, source_port, port)) {
        ag_closep(&fd);
        sb->n_left_out++;
        return;
    }
    sb->n_left_out = 0;
    struct bridge_report *r = ag_xcalloc(1, sizeof(*r));
    r->bridge = b;
    r->side.io = (struct ag_io){.fn = on_answer, .fd = fd};
    r->deadline.fn = on_deadline;
    r->next = b->reports;
    r->prev = &b->reports;
    if (r->next != NULL)
        r->next->prev = &r->next;
    b->reports = r;
    b->n_reports++;
    ag_timer_start(b->loop, &r->deadline, TIMEOUT_MS);
    if (ag_side_watch(b->loop, &r->side, EPOLLIN, &err) < 0)
        report_free(r);
}

void
bridge_reports_end(struct bridge *bridge)
{
    while (bridge->reports != NULL)
        report_free(bridge->reports);
}
