/*
 * JSON lines on stderr: built on the stack's buffer, written with one
 * write(2), so that lines of threads and processes do not mix.
 */
#include "lib/log.h"

#include <unistd.h>

#include "lib/buf.h"
#include "lib/clock.h"

#define LINE_MAX_BYTES 8192
#define VALUE_MAX_BYTES 1024

static const char *svc_name = "-";
static enum ag_log_level least_level = AG_INFO;
static const char *const level_names[] = {"debug", "info", "warn", "error"};

void
ag_log_init(const char *svc, enum ag_log_level least)
{
    svc_name = svc;
    least_level = least;
}

int
ag_log_level_parse(ag_str_t text, enum ag_log_level *out)
{
    for (int i = 0; i < 4; i++) {
        if (ag_str_is(text, level_names[i])) {
            *out = (enum ag_log_level)i;
            return 0;
        }
    }
    return -1;
}

static void
add_field(struct ag_buf *b, const struct ag_log_field *f)
{
    ag_str_t v = f->s;

    /* Room for the key, the worst escaping (6 for 1), and the line's end. */
    if (v.n > VALUE_MAX_BYTES)
        v.n = VALUE_MAX_BYTES;
    if (b->max - b->n < 6 * v.n + 128)
        return;
    ag_buf_addf(b, ",\"%s\":", f->key);
    switch (f->type) {
    case AG_LOG_STR:
        ag_buf_add_json(b, v);
        break;
    case AG_LOG_INT:
        ag_buf_addf(b, "%lld", f->i);
        break;
    case AG_LOG_BOOL:
        ag_buf_add(b, f->i ? AG_STR("true") : AG_STR("false"));
        break;
    }
}

void
ag_log_fields(enum ag_log_level level, const char *event,
              const struct ag_log_field *fields, size_t n)
{
    AG_AUTO(ag_buf_release) struct ag_buf b = AG_BUF_INIT(LINE_MAX_BYTES);
    char ts[AG_TIME_TEXT];

    if (level < least_level)
        return;
    ag_time_format(ag_now_us(), ts);
    ag_buf_addf(&b,
                "{\"ts\":\"%s\",\"level\":\"%s\",\"svc\":\"%s\","
                "\"event\":\"%s\"",
                ts, level_names[level], svc_name, event);
    for (size_t i = 0; i < n; i++)
        add_field(&b, &fields[i]);
    ag_buf_add(&b, AG_STR("}\n"));
    (void)!write(STDERR_FILENO, b.p, b.n);
}
