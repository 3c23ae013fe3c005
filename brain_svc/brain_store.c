/*
 * SQL of events. Called on the loop's thread by runs and by EventService.
 */
#include "brain_svc/brain_store.h"

#include "brain_svc/brain_log.h"

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

void
brain_store_append(struct brain *brain, const struct brain_append *append,
                   ag_db_done *done, void *arg)
{
    static const char *const sql[] = {
        [BRAIN_WRITE_POST] =
            "SELECT brain.event_post($1, $2, $5::text[], $6::text[], "
            "$7::text[]), $3::text, $4::text",
        [BRAIN_WRITE_APPEND] =
            "SELECT brain.event_append($1, $2, $3::bigint, $5::text[], "
            "$6::text[], $7::text[]), $4::text",
        [BRAIN_WRITE_BEGIN] =
            "SELECT brain.turn_begin($1, $2, $3::bigint, $5::text[], "
            "$6::text[], $7::text[]), $4::text",
        [BRAIN_WRITE_END] =
            "SELECT brain.turn_end($1, $2, $3::bigint, $4::bigint, "
            "$5::text[], $6::text[], $7::text[])",
    };
    AG_AUTO(ag_buf_release) struct ag_buf ids = AG_BUF_INIT(SIZE_MAX / 4);
    AG_AUTO(ag_buf_release) struct ag_buf types = AG_BUF_INIT(SIZE_MAX / 4);
    AG_AUTO(ag_buf_release) struct ag_buf bodies = AG_BUF_INIT(SIZE_MAX / 4);
    struct ag_err err;

    ag_buf_addc(&ids, '{');
    ag_buf_addc(&types, '{');
    ag_buf_addc(&bodies, '{');
    for (size_t i = 0; i < append->n; i++) {
        AG_AUTO(ag_buf_release) struct ag_buf one = AG_BUF_INIT(SIZE_MAX / 4);

        ag_assert(ag_json_dump(append->events[i], &one, &err) == 0);
        add_array_item(&ids, ag_str(brain_event_id(append->events[i])), i == 0);
        add_array_item(&types, ag_str(brain_event_type(append->events[i])),
                       i == 0);
        add_array_item(&bodies, ag_buf_str(&one), i == 0);
    }
    ag_buf_addc(&ids, '}');
    ag_buf_addc(&types, '}');
    ag_buf_addc(&bodies, '}');
    ag_db_query(brain->db, append->tenant, sql[append->how],
                (struct ag_db_param[]){
                    ag_db_str(append->tenant), ag_db_str(append->session),
                    ag_db_int(append->fence), ag_db_int(append->seen),
                    ag_db_str(ag_buf_str(&ids)), ag_db_str(ag_buf_str(&types)),
                    ag_db_str(ag_buf_str(&bodies))},
                7, done, arg);
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
