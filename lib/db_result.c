/*
 * What goes into a query and what comes out of it: parameters, cells, and
 * PostgreSQL's errors as kinds. Pure functions.
 */
#include "lib/db_result.h"

#include <stdio.h>

static const struct {
    const char *prefix; /* of the SQLSTATE; the longest first */
    enum ag_err_kind kind;
} states[] = {
    {"BB001", AG_ERR_INVALID},   {"BB002", AG_ERR_DENIED},
    {"BB003", AG_ERR_NOT_FOUND}, {"BB004", AG_ERR_EXISTS},
    {"BB005", AG_ERR_CONFLICT},  {"BB006", AG_ERR_PRECONDITION},
    {"BB007", AG_ERR_LIMIT},     {"BB008", AG_ERR_CORRUPT},
    {"23505", AG_ERR_EXISTS},    {"23503", AG_ERR_NOT_FOUND},
    {"P0002", AG_ERR_NOT_FOUND}, {"42501", AG_ERR_DENIED},
    {"40001", AG_ERR_CONFLICT},  {"40P01", AG_ERR_CONFLICT},
    {"57014", AG_ERR_TIMEOUT},   {"57P", AG_ERR_UNAVAILABLE},
    {"53", AG_ERR_UNAVAILABLE},  {"08", AG_ERR_UNAVAILABLE},
    {"58", AG_ERR_UNAVAILABLE},  {"22", AG_ERR_INVALID},
    {"23", AG_ERR_INVALID},
};

void
ag_db_set_error(struct ag_err *err, const PGresult *res)
{
    const char *state = PQresultErrorField(res, PG_DIAG_SQLSTATE);
    const char *text = PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY);
    enum ag_err_kind kind = AG_ERR_INTERNAL;
    bool is_ours = false;

    for (size_t i = 0; state != NULL && i < sizeof(states) / sizeof(states[0]);
         i++) {
        if (strncmp(state, states[i].prefix, strlen(states[i].prefix)) == 0) {
            kind = states[i].kind;
            is_ours = states[i].prefix[0] == 'B';
            break;
        }
    }
    if (is_ours)
        ag_err_set(err, kind, "%s", text);
    else
        ag_err_set(err, kind, "database: %s (SQLSTATE %s)",
                   text == NULL ? "no message" : text,
                   state == NULL ? "none" : state);
}

struct ag_db_param
ag_db_int(int64_t v)
{
    struct ag_db_param p = {.is_null = false};

    (void)snprintf(p.text, sizeof(p.text), "%lld", (long long)v);
    return p;
}

struct ag_db_param
ag_db_bool(bool v)
{
    return ag_db_str(v ? AG_STR("t") : AG_STR("f"));
}

int
ag_db_rows(const struct ag_db_result *res)
{
    return PQntuples(res->pg);
}

int
ag_db_columns(const struct ag_db_result *res)
{
    return PQnfields(res->pg);
}

bool
ag_db_is_null(const struct ag_db_result *res, int row, int col)
{
    return PQgetisnull(res->pg, row, col);
}

ag_str_t
ag_db_get(const struct ag_db_result *res, int row, int col)
{
    if (PQgetisnull(res->pg, row, col))
        return (ag_str_t){NULL, 0};
    return ag_str_n(PQgetvalue(res->pg, row, col),
                    (size_t)PQgetlength(res->pg, row, col));
}

int64_t
ag_db_get_int(const struct ag_db_result *res, int row, int col)
{
    int64_t v = 0;

    (void)ag_str_i64(ag_db_get(res, row, col), &v);
    return v;
}

bool
ag_db_get_bool(const struct ag_db_result *res, int row, int col)
{
    return ag_str_is(ag_db_get(res, row, col), "t");
}

ag_str_t
ag_db_get_bytes(const struct ag_db_result *res, int row, int col,
                struct ag_arena *arena)
{
    unsigned char *raw;
    ag_str_t out;
    size_t n;

    if (PQgetisnull(res->pg, row, col))
        return (ag_str_t){NULL, 0};
    raw = PQunescapeBytea((const unsigned char *)PQgetvalue(res->pg, row, col),
                          &n);
    ag_assert(raw != NULL);
    out = ag_arena_copy(arena, ag_str_n(raw, n));
    PQfreemem(raw);
    return out;
}
