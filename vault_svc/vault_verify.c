/*
 * Reads the audit in pages. A row that does not check under the MAC before it
 * was changed; a number that is missing was deleted; an end before the signed
 * head was cut off; a row at the head's number with another MAC is another
 * history. After that the chain is trusted, and what it says last of keys,
 * roles, credentials, grants, policies and incidents must be what the tables
 * say.
 */
#include "vault_svc/vault_verify.h"

#include <stdio.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/json.h"
#include "vault_svc/vault_audit.h"
#include "vault_svc/vault_head.h"
#include "vault_svc/vault_start.h"

enum { PAGE = 5000, FOLLOW_US = 500000 };

struct reading {
    struct vault *v;
    struct vault_tenant *tenant;
    const struct vault_head *head; /* NULL: none was signed */
    int64_t seq, rows, findings;
    unsigned char mac[VAULT_MAC_BYTES];
    int page; /* rows of the last page */
    bool is_export;
};

static void finding(struct reading *r, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

static void
finding(struct reading *r, const char *fmt, ...)
{
    va_list ap;

    r->findings++;
    printf("tenant %s: ", r->tenant->name);
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    putchar('\n');
}

static void
read_row(const struct ag_db_result *res, int i, ag_str_t tenant,
         struct vault_audit_row *row)
{
    row->tenant = tenant;
    row->seq = ag_db_get_int(res, i, 0);
    row->id = ag_db_get(res, i, 1);
    row->created_us = ag_db_get_int(res, i, 2);
    row->action = ag_db_get(res, i, 3);
    row->subject = ag_db_get(res, i, 4);
    row->object = ag_db_get(res, i, 5);
    row->session_id = ag_db_get(res, i, 6);
    row->detail = ag_db_get(res, i, 7);
}

static void
check_row(struct reading *r, const struct vault_audit_row *row, ag_str_t mac)
{
    unsigned char want[VAULT_MAC_BYTES];

    if (row->seq > r->seq + 1) {
        finding(r, "rows %lld to %lld are missing", (long long)r->seq + 1,
                (long long)row->seq - 1);
        /* What came before this row is gone, so its MAC says nothing. */
    } else {
        vault_audit_mac(&r->tenant->ring, row, r->mac, want);
        if (!ag_str_eq_ct(ag_str_n(want, sizeof(want)), mac))
            finding(r, "row %lld (%.*s, %.*s) was changed", (long long)row->seq,
                    AG_FMT(row->id), AG_FMT(row->action));
    }
    if (r->head != NULL && row->seq == r->head->seq
        && !ag_str_eq(mac, ag_str_n(r->head->mac, VAULT_MAC_BYTES)))
        finding(r,
                "row %lld is not the one whose head was signed: an older "
                "database went on from there",
                (long long)row->seq);
    r->seq = row->seq;
    if (mac.n == VAULT_MAC_BYTES)
        memcpy(r->mac, mac.p, mac.n);
}

static void
print_row(const struct vault_audit_row *row, ag_str_t mac)
{
    AG_AUTO(ag_buf_release) struct ag_buf b = AG_BUF_INIT(1 << 16);
    char at[AG_TIME_TEXT];
    const struct {
        const char *key;
        ag_str_t v;
    } texts[] = {{"id", row->id},
                 {"action", row->action},
                 {"subject", row->subject},
                 {"object", row->object},
                 {"session_id", row->session_id}};

    ag_time_format(row->created_us, at);
    ag_buf_addf(&b, "{\"seq\":%lld,\"created_at\":\"%s\"", (long long)row->seq,
                at);
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        ag_buf_addf(&b, ",\"%s\":", texts[i].key);
        ag_buf_add_json(&b, texts[i].v);
    }
    ag_buf_addf(&b, ",\"detail\":%.*s,\"mac\":\"", AG_FMT(row->detail));
    ag_buf_add_hex(&b, mac);
    ag_buf_add(&b, AG_STR("\"}\n"));
    fwrite(b.p, 1, b.n, stdout);
}

static int
read_page(void *arg, const struct ag_db_result *res, struct ag_err *err)
{
    AG_AUTO(ag_arena_freep) struct ag_arena *arena = ag_arena_new();
    struct reading *r = arg;

    (void)err;
    r->page = ag_db_rows(res);
    for (int i = 0; i < r->page; i++) {
        struct vault_audit_row row;
        read_row(res, i, ag_str(r->tenant->name), &row);
        ag_str_t mac = ag_db_get_bytes(res, i, 8, arena);
        if (r->is_export) {
            print_row(&row, mac);
            r->seq = row.seq;
        } else {
            check_row(r, &row, mac);
        }
    }
    r->rows += r->page;
    return 0;
}

/* The next rows; r->page says how many there were. */
static int
next_page(struct reading *r, struct ag_err *err)
{
    static const char sql[] =
        "SELECT seq, id, created_us, action, subject, object, session_id,"
        " detail, mac FROM vault.audit WHERE seq > $1 ORDER BY seq"
        " LIMIT $2::bigint";
    struct ag_db_param params[] = {ag_db_int(r->seq), ag_db_int(PAGE)};
    return vault_query_now(r->v, ag_str(r->tenant->name), sql, params, 2,
                           read_page, r, err);
}

/* ---- what the tables say ----------------------------------------------- */

/* Rows (object, seq) of what the chain says and a table does not. */
static const struct {
    const char *sql, *text;
} agreements[] = {
    {"SELECT k.id, max(a.seq) FROM vault.api_key k JOIN vault.audit a"
     " ON a.object = k.id AND a.action = 'key.revoked'"
     " WHERE k.revoked_us IS NULL GROUP BY k.id",
     "key %.*s was revoked in row %lld and is alive: an older row was put back"},
    {"SELECT a.object, max(a.seq) FROM vault.audit a"
     " WHERE a.action IN ('role.created', 'role.updated', 'role.deleted')"
     " AND NOT EXISTS (SELECT FROM vault.role r WHERE r.id = a.object)"
     " GROUP BY a.object",
     "role %.*s that row %lld wrote is gone: its row was deleted, or an older "
     "state was put back"},
    {"SELECT r.id, max(a.seq) FROM vault.role r JOIN vault.audit a"
     " ON a.object = r.id"
     " AND a.action IN ('role.created', 'role.updated', 'role.deleted')"
     " AND ((a.detail::json->>'version')::integer > r.version"
     "  OR ((a.detail::json->>'version')::integer = r.version"
     "   AND a.detail::json->>'scopes' <> r.scopes)) GROUP BY r.id",
     "role %.*s is not what row %lld made of it: an older row was put back"},
    {"SELECT c.id, max(a.seq) FROM vault.credential c JOIN vault.audit a"
     " ON a.object = c.id AND (a.action = 'credential.deleted'"
     "  OR (a.action = 'credential.archived' AND c.archived_us IS NULL))"
     " GROUP BY c.id",
     "credential %.*s was archived or deleted in row %lld and is alive: an "
     "older row was put back"},
    {"SELECT c.id, max(a.seq) FROM vault.credential c JOIN vault.audit a"
     " ON a.object = c.id AND a.action = 'credential.updated'"
     " AND (a.detail::json->>'version')::integer > c.version GROUP BY c.id",
     "credential %.*s got a new value in row %lld and has an older one: an "
     "older row was put back"},
    {"SELECT g.session_id, max(a.seq) FROM vault.session_grant g"
     " JOIN vault.audit a ON a.session_id = g.session_id"
     " AND a.action = 'grant.ended' WHERE g.ended_us IS NULL"
     " GROUP BY g.session_id",
     "the grant of %.*s was ended in row %lld and is alive: an older row was "
     "put back"},
    {"SELECT g.session_id, max(a.seq) FROM vault.session_grant g"
     " JOIN vault.audit a ON a.session_id = g.session_id"
     " AND a.action = 'incident.opened' WHERE g.frozen_us IS NULL"
     " AND NOT EXISTS (SELECT FROM vault.audit b WHERE b.object = a.object"
     "  AND b.action = 'incident.resolved') GROUP BY g.session_id",
     "session %.*s was frozen in row %lld and is not: an older row was put "
     "back"},
    {"SELECT v.id, max(a.seq) FROM vault.vault v JOIN vault.audit a"
     " ON a.object = v.id AND (a.action = 'vault.deleted'"
     "  OR (a.action = 'vault.archived' AND v.archived_us IS NULL))"
     " GROUP BY v.id",
     "vault %.*s was archived or deleted in row %lld and is alive: an older "
     "row was put back"},
    {"SELECT a.object, max(a.seq) FROM vault.audit a"
     " WHERE a.action = 'data_key.made' AND a.object = (SELECT"
     "  max(b.object::integer)::text FROM vault.audit b"
     "  WHERE b.action = 'data_key.made')"
     " AND NOT EXISTS (SELECT FROM vault.data_key d"
     "  WHERE d.version >= a.object::integer) GROUP BY a.object",
     "data key %.*s that row %lld made is gone: an older state was put back"},
    {"SELECT a.object, max(a.seq) FROM vault.audit a"
     " WHERE a.action = 'policy.put' AND NOT EXISTS (SELECT FROM vault.policy p"
     "  WHERE p.environment_id = a.object"
     "  AND p.version = (a.detail::json->>'version')::integer"
     "  AND p.digest = a.detail::json->>'digest') GROUP BY a.object",
     "a policy of %.*s that row %lld wrote is gone: an older state was put "
     "back"},
};

struct agreement {
    struct reading *r;
    const char *text;
};

static int
read_agreement(void *arg, const struct ag_db_result *res, struct ag_err *err)
{
    struct agreement *a = arg;

    (void)err;
    for (int i = 0; i < ag_db_rows(res); i++) {
        char line[512];
        ag_str_t id = ag_db_get(res, i, 0);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        snprintf(line, sizeof(line), a->text, AG_FMT(id),
                 (long long)ag_db_get_int(res, i, 1));
#pragma GCC diagnostic pop
        finding(a->r, "%s", line);
    }
    return 0;
}

static int
check_tables(struct reading *r, struct ag_err *err)
{
    for (size_t i = 0; i < sizeof(agreements) / sizeof(agreements[0]); i++) {
        struct agreement a = {r, agreements[i].text};
        if (vault_query_now(r->v, ag_str(r->tenant->name), agreements[i].sql,
                            NULL, 0, read_agreement, &a, err)
            < 0)
            return -1;
    }
    return 0;
}

/* ---- verify ------------------------------------------------------------ */

static void
check_end(struct reading *r, const unsigned char pub[32])
{
    if (r->head == NULL && r->rows > 0)
        finding(r, "no signed head: the file is missing, or was cut");
    if (r->head != NULL && !vault_head_is_signed(r->head, pub))
        finding(r, "the signature of the head does not check");
    if (r->head != NULL && r->seq < r->head->seq)
        finding(r,
                "rows after %lld are missing: the signed head names row %lld",
                (long long)r->seq, (long long)r->head->seq);
}

/* The chain begins behind rows that were taken out: a row of the chain itself
 * says through which one, and with what MAC it ended. */
static int
read_cut(void *arg, const struct ag_db_result *res, struct ag_err *err)
{
    AG_AUTO(ag_arena_freep) struct ag_arena *arena = ag_arena_new();
    struct reading *r = arg;
    ag_str_t mac;

    (void)err;
    if (ag_db_rows(res) == 0)
        return 0;
    mac = ag_db_get_bytes(res, 0, 1, arena);
    if (mac.n != VAULT_MAC_BYTES)
        return 0;
    r->seq = ag_db_get_int(res, 0, 0);
    memcpy(r->mac, mac.p, VAULT_MAC_BYTES);
    return 0;
}

static int
find_cut(struct reading *r, struct ag_err *err)
{
    static const char sql[] =
        "SELECT f.first - 1, decode(a.detail::json ->> 'mac', 'hex')"
        " FROM (SELECT min(seq) AS first FROM vault.audit) f"
        " JOIN vault.audit a ON a.action = 'audit.pruned' AND"
        " a.detail::json ->> 'through' = (f.first - 1)::text"
        " WHERE f.first > 1 AND a.detail::json ->> 'mac' ~ '^[0-9a-f]{64}$'"
        " ORDER BY a.seq DESC LIMIT 1";

    return vault_query_now(r->v, ag_str(r->tenant->name), sql, NULL, 0,
                           read_cut, r, err);
}

static int
verify_tenant(struct reading *r, const unsigned char pub[32],
              struct ag_err *err)
{
    if (find_cut(r, err) < 0)
        return -1;
    do {
        if (next_page(r, err) < 0)
            return -1;
    } while (r->page == PAGE);
    check_end(r, pub);
    if (check_tables(r, err) < 0)
        return -1;
    printf("tenant %s: %lld rows, %lld signed, %lld findings\n",
           r->tenant->name, (long long)r->rows,
           r->head == NULL ? 0 : (long long)r->head->seq,
           (long long)r->findings);
    return 0;
}

int
vault_audit_verify(struct vault *v, int64_t *n_findings, struct ag_err *err)
{
    AG_AUTO(ag_buf_release) struct ag_buf pub = AG_BUF_INIT(64);
    struct vault_heads heads;
    const ag_str_t none = {NULL, 0};
    int rc = 0;

    if (vault_keeper_ask_now(v->conf->keeper, KEEPER_CHECK, none, none, &pub,
                             NULL, err)
        < 0)
        return -1;
    /* Read before the rows: what is signed meanwhile is no finding. */
    if (vault_heads_load(v->conf->audit_heads, &heads, err) < 0) {
        vault_heads_release(&heads);
        return -1;
    }
    *n_findings = 0;
    for (size_t i = 0; i < v->n_tenants && rc == 0; i++) {
        struct reading r = {.v = v, .tenant = v->tenants[i]};
        r.head = vault_heads_find(&heads, ag_str(r.tenant->name));
        rc = verify_tenant(&r, (const unsigned char *)pub.p, err);
        *n_findings += r.findings;
    }
    vault_heads_release(&heads);
    return rc;
}

int
vault_audit_export(struct vault *v, struct ag_err *err)
{
    struct reading r = {.v = v,
                        .tenant = vault_tenant_find(v, ag_str(v->conf->tenant)),
                        .seq = v->conf->since,
                        .is_export = true};

    if (r.tenant == NULL)
        return ag_err_set(err, AG_ERR_NOT_FOUND, "there is no tenant \"%s\"",
                          v->conf->tenant);
    for (;;) {
        if (next_page(&r, err) < 0)
            return -1;
        if (fflush(stdout) != 0)
            return ag_err_sys(err, "write the rows");
        if (r.page == PAGE)
            continue;
        if (!v->conf->follow || v->is_stopping)
            return 0;
        usleep(FOLLOW_US);
    }
}
