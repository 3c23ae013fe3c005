/*
 * One JSON object a line on stderr, from typed fields.
 *
 *   ag_log(AG_INFO, "job.exited", AG_S("job", id), AG_I("exit_code", code));
 *
 * Event names are `noun.past_verb` and are listed in docs/events.md. Prompts,
 * secrets and tool output are never a field: log their length. Safe from any
 * thread; a line is one write(2).
 */
#ifndef LIB_LOG_H
#define LIB_LOG_H

#include "lib/err.h"
#include "lib/str.h"

enum ag_log_level { AG_DEBUG, AG_INFO, AG_WARN, AG_ERROR };

struct ag_log_field {
    const char *key;
    enum { AG_LOG_STR, AG_LOG_INT, AG_LOG_BOOL } type;
    ag_str_t s;
    long long i;
};

#define AG_S(k, v) ((struct ag_log_field){(k), AG_LOG_STR, ag_str(v), 0})
#define AG_V(k, v) ((struct ag_log_field){(k), AG_LOG_STR, (v), 0})
#define AG_I(k, v) ((struct ag_log_field){(k), AG_LOG_INT, {0, 0}, (v)})
#define AG_B(k, v) ((struct ag_log_field){(k), AG_LOG_BOOL, {0, 0}, (v)})
/* The two fields of an error: its kind and its message. */
#define AG_E(e) \
    AG_S("error", ag_err_kind_name((e)->kind)), AG_S("message", (e)->msg)

/* Name in the field "svc", and the least level that is written. Call once. */
void ag_log_init(const char *svc, enum ag_log_level least);
/* "debug", "info", "warn", "error" → level. Returns 0 or -1. */
int ag_log_level_parse(ag_str_t text, enum ag_log_level *out);

void ag_log_fields(enum ag_log_level level, const char *event,
                   const struct ag_log_field *fields, size_t n);

#define ag_log(level, event, ...)                                    \
    ag_log_fields((level), (event),                                  \
                  (const struct ag_log_field[]){__VA_ARGS__},        \
                  sizeof((const struct ag_log_field[]){__VA_ARGS__}) \
                      / sizeof(struct ag_log_field))

#endif
