/*
 * Head and tail of a stream, for sandbox_exec.c. A command may print for as
 * long as it likes: what is kept of it in memory does not grow.
 */
#include "sandbox_svc/sandbox_output.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

void
sandbox_output_init(struct sandbox_output *o, size_t limit, int dir,
                    const char *name)
{
    *o = (struct sandbox_output){
        .half = limit / 2, .dir = dir, .name = name, .file = -1};
}

void
sandbox_output_release(struct sandbox_output *o)
{
    free(ag_take(&o->head));
    free(ag_take(&o->ring));
    ag_closep(&o->file);
    o->file = -1;
}

static size_t
ring_count(const struct sandbox_output *o)
{
    int64_t n = o->total - (int64_t)o->head_n;

    return n < (int64_t)o->half ? (size_t)n : o->half;
}

static void
file_write(struct sandbox_output *o, ag_str_t s)
{
    while (o->file >= 0 && s.n > 0) {
        ssize_t n = write(o->file, s.p, s.n);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            /* A full disk: what is there stays. */
            ag_closep(&o->file);
            o->file = -1;
            return;
        }
        s.p += n;
        s.n -= (size_t)n;
    }
}

/* Head and ring are still the whole stream. */
static void
file_begin(struct sandbox_output *o)
{
    if (o->dir < 0 || o->has_file)
        return;
    o->file =
        openat(o->dir, o->name,
               O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (o->file < 0)
        return;
    /* The umask of a service is 027; the sandbox reads it as "other". */
    (void)fchmod(o->file, 0644);
    o->has_file = true;
    file_write(o, ag_str_n(o->head, o->head_n));
    file_write(o, ag_str_n(o->ring, ring_count(o)));
}

static void
keep(struct sandbox_output *o, ag_str_t s)
{
    size_t n = o->half - o->head_n < s.n ? o->half - o->head_n : s.n;

    if (n > 0) {
        if (o->head == NULL)
            o->head = ag_xmalloc(o->half);
        memcpy(o->head + o->head_n, s.p, n);
        o->head_n += n;
        o->total += (int64_t)n;
    }
    s.p += n;
    s.n -= n;
    if (s.n > 0 && o->ring == NULL)
        o->ring = ag_xmalloc(o->half);
    o->total += (int64_t)s.n;
    /* Only the last `half` can stay. */
    if (s.n > o->half) {
        s.p += s.n - o->half;
        o->ring_at = 0;
        s.n = o->half;
    }
    while (s.n > 0) {
        n = o->half - o->ring_at < s.n ? o->half - o->ring_at : s.n;
        memcpy(o->ring + o->ring_at, s.p, n);
        o->ring_at = (o->ring_at + n) % o->half;
        s.p += n;
        s.n -= n;
    }
}

void
sandbox_output_add(struct sandbox_output *o, ag_str_t data)
{
    if (o->total + (int64_t)data.n > (int64_t)(2 * o->half))
        file_begin(o);
    file_write(o, data);
    keep(o, data);
}

void
sandbox_output_text(const struct sandbox_output *o, struct ag_buf *out)
{
    size_t n = ring_count(o);

    ag_buf_add(out, ag_str_n(o->head, o->head_n));
    if (!sandbox_output_is_truncated(o)) {
        ag_buf_add(out, ag_str_n(o->ring, n));
        return;
    }
    ag_buf_addf(out, "\n[… %lld bytes left out …]\n",
                (long long)(o->total - (int64_t)(2 * o->half)));
    /* The ring is full: its oldest byte is the next to be overwritten. */
    ag_buf_add(out, ag_str_n(o->ring + o->ring_at, n - o->ring_at));
    ag_buf_add(out, ag_str_n(o->ring, o->ring_at));
}
