/*
 * SQL of events. Called on the loop by runs and by EventService.
 */
#include "brain_svc/brain_store.h"

#include <stdio.h>

#include "brain_svc/brain_budget.h"
#include "brain_svc/brain_harness.h"
#include "brain_svc/brain_log.h"

#define USED_TEXT (BRAIN_USED * 22 + 3)

/* PostgreSQL's text form of text[]: {"a","b"} with \ and " escaped. */
static void
add_array_item(struct ag_buf *b, ag_str_t item, bool is_first)
{
    if (!is_first)
        ag_buf_addc(b, ',');
    ag_buf_addc(b, '"');
    for (size_t i = 0, run; i < item.n; i += run) {
        for (run = 0; i + run < item.n && item.p[i + run] != '"'
                      && item.p[i + run] != '\\';
             run++)
            ;
        ag_buf_add(b, ag_str_n(item.p + i, run));
        if (i + run < item.n) {
            ag_buf_addc(b, '\\');
            ag_buf_addc(b, item.p[i + run]);
            run++;
        }
    }
    ag_buf_addc(b, '"');
}

/* Events as arrays. */
struct arrays {
    struct ag_buf ids, types, bodies, heard;
};

static void
arrays_release(struct arrays *a)
{
    ag_buf_release(&a->ids);
    ag_buf_release(&a->types);
    ag_buf_release(&a->bodies);
    ag_buf_release(&a->heard);
}

static void
arrays_open(struct arrays *a)
{
    ag_buf_init(&a->ids, SIZE_MAX / 4);
    ag_buf_init(&a->types, SIZE_MAX / 4);
    ag_buf_init(&a->bodies, SIZE_MAX / 4);
    ag_buf_init(&a->heard, SIZE_MAX / 4);
    ag_buf_addc(&a->ids, '{');
    ag_buf_addc(&a->types, '{');
    ag_buf_addc(&a->bodies, '{');
    ag_buf_addc(&a->heard, '{');
}

static void
arrays_add(struct arrays *a, const struct brain_append *append)
{
    struct ag_err err;

    for (size_t i = 0; i < append->n; i++) {
        AG_AUTO(ag_buf_release) struct ag_buf one = AG_BUF_INIT(SIZE_MAX / 4);
        const json_t *event = append->events[i];
        bool is_first = a->ids.n == 1;

        ag_assert(ag_json_dump(event, &one, &err) == 0);
        add_array_item(&a->ids, ag_str(brain_event_id(event)), is_first);
        add_array_item(&a->types, ag_str(brain_event_type(event)), is_first);
        add_array_item(&a->bodies, ag_buf_str(&one), is_first);
        if (append->heard != NULL)
            ag_buf_addf(&a->heard, "%s%lld", is_first ? "" : ",",
                        (long long)append->heard[i]);
    }
}

static void
arrays_close(struct arrays *a)
{
    ag_buf_addc(&a->ids, '}');
    ag_buf_addc(&a->types, '}');
    ag_buf_addc(&a->bodies, '}');
    ag_buf_addc(&a->heard, '}');
}

static void
arrays_fill(struct arrays *a, const struct brain_append *append)
{
    arrays_open(a);
    arrays_add(a, append);
    arrays_close(a);
}

/* As PostgreSQL's bigint[]; null when the events use nothing. */
static struct ag_db_param
used_param(const struct brain_append *append, char text[USED_TEXT])
{
    int64_t used[BRAIN_USED] = {0};
    bool is_nothing = true;
    size_t at = 0;

    for (size_t i = 0; i < append->n; i++)
        brain_used_add(used, append->events[i]);
    for (int i = 0; i < BRAIN_USED; i++) {
        is_nothing &= used[i] == 0;
        at += (size_t)snprintf(text + at, USED_TEXT - at, "%c%lld",
                               i == 0 ? '{' : ',', (long long)used[i]);
    }
    (void)snprintf(text + at, USED_TEXT - at, "}");
    return is_nothing ? ag_db_null() : ag_db_str(ag_str(text));
}

void
brain_store_append(struct brain *brain, const struct brain_append *append,
                   ag_db_done *done, void *arg)
{
    static const char *const sql[] = {
        [BRAIN_WRITE_APPEND] =
            "SELECT brain.event_append($1, $2, $3::bigint, $5::text[], "
            "$6::text[], $7::text[], $8::bigint[], $9::bigint[]), "
            "$4::text",
        [BRAIN_WRITE_BEGIN] =
            "SELECT brain.turn_begin($1, $2, $3::bigint, $5::text[], "
            "$6::text[], $7::text[], $8::bigint[], $9::bigint[]), "
            "$4::text",
        [BRAIN_WRITE_END] =
            "SELECT brain.turn_end($1, $2, $3::bigint, $4::bigint, "
            "$5::text[], $6::text[], $7::text[], $8::bigint[], "
            "$9::bigint[])",
    };
    char used[USED_TEXT];
    struct arrays a;

    arrays_fill(&a, append);
    ag_db_query(brain->db, append->tenant, sql[append->how],
                (struct ag_db_param[]){
                    ag_db_str(append->tenant), ag_db_str(append->session),
                    ag_db_int(append->fence), ag_db_int(append->seen),
                    ag_db_str(ag_buf_str(&a.ids)),
                    ag_db_str(ag_buf_str(&a.types)),
                    ag_db_str(ag_buf_str(&a.bodies)), used_param(append, used),
                    ag_db_str(ag_buf_str(&a.heard))},
                9, done, arg);
    arrays_release(&a);
}

/* One append's part of the arrays that are one item an append, and of `used`.
 */
static void
add_append(const struct brain_append *append, bool is_first,
           struct ag_buf lists[5])
{
    int64_t used[BRAIN_USED] = {0};
    char sep = is_first ? '{' : ',';

    add_array_item(&lists[0], append->tenant, is_first);
    add_array_item(&lists[1], append->session, is_first);
    ag_buf_addf(&lists[2], "%c%lld", sep, (long long)append->fence);
    ag_buf_addf(&lists[3], "%c%zu", sep, append->n);
    for (size_t i = 0; i < append->n; i++)
        brain_used_add(used, append->events[i]);
    for (int i = 0; i < BRAIN_USED; i++)
        ag_buf_addf(&lists[4], "%c%lld", i == 0 ? sep : ',',
                    (long long)used[i]);
}

void
brain_store_append_all(struct brain *brain, const struct brain_append *appends,
                       size_t n, ag_db_done *done, void *arg)
{
    struct ag_buf lists[5]; /* tenants, sessions, fences, counts, used */
    struct arrays a;

    for (int k = 0; k < 5; k++)
        ag_buf_init(&lists[k], SIZE_MAX / 4);
    ag_buf_addc(&lists[0], '{');
    ag_buf_addc(&lists[1], '{');
    arrays_open(&a);
    for (size_t i = 0; i < n; i++) {
        add_append(&appends[i], i == 0, lists);
        arrays_add(&a, &appends[i]);
    }
    arrays_close(&a);
    for (int k = 0; k < 5; k++)
        ag_buf_addc(&lists[k], '}');
    ag_db_query(
        brain->db, AG_STR(""),
        "SELECT brain.events_append($1::text[], $2::text[], $3::bigint[], "
        "$4::int[], $5::text[], $6::text[], $7::text[], $8::bigint[], "
        "$9::bigint[])",
        (struct ag_db_param[]){
            ag_db_str(ag_buf_str(&lists[0])), ag_db_str(ag_buf_str(&lists[1])),
            ag_db_str(ag_buf_str(&lists[2])), ag_db_str(ag_buf_str(&lists[3])),
            ag_db_str(ag_buf_str(&a.ids)), ag_db_str(ag_buf_str(&a.types)),
            ag_db_str(ag_buf_str(&a.bodies)), ag_db_str(ag_buf_str(&lists[4])),
            ag_db_str(ag_buf_str(&a.heard))},
        9, done, arg);
    for (int k = 0; k < 5; k++)
        ag_buf_release(&lists[k]);
    arrays_release(&a);
}

/* Drivers that look at turns before the one at hand. */
static void
add_history(struct ag_buf *out)
{
    const struct brain_harness *h;

    ag_buf_addc(out, '{');
    for (size_t i = 0; (h = brain_harness_at(i)) != NULL; i++)
        if (h->needs_history)
            ag_buf_addf(out, "%s%s", out->n > 1 ? "," : "", h->name);
    ag_buf_addc(out, '}');
}

void
brain_store_post(struct brain *brain, const struct brain_append *append,
                 bool may_claim, ag_db_done *done, void *arg)
{
    AG_AUTO(ag_buf_release) struct ag_buf history = AG_BUF_INIT(1024);
    struct arrays a;

    arrays_fill(&a, append);
    add_history(&history);
    ag_db_query(
        brain->db, append->tenant,
        "SELECT p.first, p.fence, p.turn_started_us, r.* "
        "FROM brain.event_post($1, $2, $3::text[], $4::text[], $5::text[], $6, "
        "$7::bigint) p LEFT JOIN LATERAL brain.run_read("
        "CASE WHEN p.fence > 0 THEN $2 ELSE '' END, $8::text[], $9::int) r "
        "ON true",
        (struct ag_db_param[]){
            ag_db_str(append->tenant), ag_db_str(append->session),
            ag_db_str(ag_buf_str(&a.ids)), ag_db_str(ag_buf_str(&a.types)),
            ag_db_str(ag_buf_str(&a.bodies)),
            ag_db_str(may_claim ? ag_str(brain->conf.instance) : AG_STR("")),
            ag_db_int(brain->conf.lease_ms), ag_db_str(ag_buf_str(&history)),
            ag_db_int(BRAIN_READ_ROWS)},
        9, done, arg);
    arrays_release(&a);
}

void
brain_store_read_run(struct brain *brain, ag_str_t tenant, ag_str_t session,
                     int limit, ag_db_done *done, void *arg)
{
    AG_AUTO(ag_buf_release) struct ag_buf history = AG_BUF_INIT(1024);

    add_history(&history);
    ag_db_query(brain->db, tenant,
                "SELECT * FROM brain.run_read($1, $2::text[], $3::int)",
                (struct ag_db_param[]){ag_db_str(session),
                                       ag_db_str(ag_buf_str(&history)),
                                       ag_db_int(limit)},
                3, done, arg);
}

void
brain_store_find(struct brain *brain, ag_str_t tenant, ag_str_t session,
                 ag_str_t id, ag_db_done *done, void *arg)
{
    ag_db_query(brain->db, tenant,
                "SELECT seq FROM brain.event WHERE id = $1 AND session_id = $2",
                (struct ag_db_param[]){ag_db_str(id), ag_db_str(session)}, 2,
                done, arg);
}

void
brain_store_read_some(struct brain *brain, ag_str_t tenant, ag_str_t session,
                      int64_t after, int limit, ag_db_done *done, void *arg)
{
    ag_db_query(
        brain->db, tenant,
        BRAIN_STORE_SOME(
            "SELECT seq, body, octet_length(body::text) AS own "
            "FROM brain.event WHERE session_id = $1 AND seq > $2::bigint "
            "ORDER BY seq LIMIT $3::int",
            "", "$4::bigint") "ORDER BY seq",
        (struct ag_db_param[]){ag_db_str(session), ag_db_int(after),
                               ag_db_int(limit),
                               ag_db_int(brain->conf.page_bytes)},
        4, done, arg);
}

void
brain_store_read(struct brain *brain, ag_str_t tenant, ag_str_t session,
                 int64_t after, int limit, ag_db_done *done, void *arg)
{
    ag_db_query(brain->db, tenant,
                "SELECT seq, body FROM brain.event WHERE session_id = $1 "
                "AND seq > $2::bigint ORDER BY seq LIMIT $3::int",
                (struct ag_db_param[]){ag_db_str(session), ag_db_int(after),
                                       ag_db_int(limit)},
                3, done, arg);
}
