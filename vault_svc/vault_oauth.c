/*
 * The life of a refresh: read the row, ask the endpoint, write the row. A
 * refresh token may be good for one use, so the row is read when the refresh
 * begins, never taken from what a request read before, and a row that changed
 * while the endpoint was asked (sealed anew, renamed) is read and written
 * again: only a person's newer value wins over the endpoint's.
 */
#include "vault_svc/vault_oauth.h"

#include <stdlib.h>
#include <time.h>

#include "lib/clock.h"
#include "lib/http_client.h"
#include "lib/log.h"
#include "vault_svc/vault_audit.h"
#include "vault_svc/vault_oauth_auth.h"
#include "vault_svc/vault_search.h"
#include "vault_svc/vault_store.h"

enum { WRITES_MAX = 8 };

struct waiter {
    struct waiter *next;
    vault_oauth_done *done;
    void *arg;
};

struct refresh {
    struct vault_oauth *o;
    struct refresh *next;
    struct vault_tenant *tenant;
    char *id;
    struct waiter *waiters;
    struct ag_timer later; /* a failure is told, or forgotten */
    bool has_failed;
    struct ag_err err; /* of the failure */
    struct ag_arena *arena;
    struct vault_credential_row row;
    int64_t version; /* that the endpoint was asked for */
    struct ag_http_request *http;
    struct ag_buf answer;
    struct ag_buf sealed; /* what is to be sealed; wiped */
    char expires[AG_TIME_TEXT];
    int n_writes;
};

struct vault_oauth {
    struct vault *v;
    struct ag_http *http;
    struct refresh *list;
    bool is_stopping;
};

static void
refresh_free(struct refresh *r)
{
    struct refresh **at = &r->o->list;

    while (*at != r)
        at = &(*at)->next;
    *at = r->next;
    ag_timer_stop(r->o->v->loop, &r->later);
    ag_http_cancel(r->http);
    ag_buf_wipe(&r->answer);
    ag_buf_wipe(&r->sealed);
    if (r->arena != NULL)
        ag_arena_free(r->arena);
    free(r->id);
    free(r);
}

static void
tell(struct refresh *r, const struct ag_err *err)
{
    struct waiter *list = r->waiters, *w;

    r->waiters = NULL;
    while ((w = list) != NULL) {
        list = w->next;
        w->done(w->arg, err);
        free(w);
    }
}

static void
on_later(struct ag_timer *timer)
{
    struct refresh *r =
        (struct refresh *)(void *)((char *)timer
                                   - offsetof(struct refresh, later));
    refresh_free(r);
}

/* `err` is NULL when the row is good now. Not from inside curl's callbacks
 * with r->http set: the request ends by itself. */
static void
finish(struct refresh *r, const struct ag_err *err)
{
    struct vault_oauth *o = r->o;

    ag_buf_wipe(&r->answer);
    ag_buf_wipe(&r->sealed);
    if (err == NULL) {
        struct waiter *list = ag_take(&r->waiters);
        refresh_free(r);
        while (list != NULL) {
            struct waiter *w = list;
            list = w->next;
            w->done(w->arg, NULL);
            free(w);
        }
        return;
    }
    r->err = *err;
    r->has_failed = true;
    ag_log(AG_WARN, "credential.refresh_failed",
           AG_S("tenant", r->tenant->name), AG_S("credential", r->id),
           AG_E(err));
    ag_timer_start(o->v->loop, &r->later,
                   o->is_stopping ? 0 : o->v->conf->oauth_retry_ms);
    tell(r, err);
}

/* ---- the row ----------------------------------------------------------- */

/* Read and checked into r->row, or -1: it is finished. */
static int
take_row(struct refresh *r, const struct ag_db_result *res,
         const struct ag_err *err)
{
    struct ag_err why = AG_ERR_INIT;

    if (res == NULL) {
        finish(r, err);
        return -1;
    }
    if (ag_db_rows(res) != 1) {
        finish(r, NULL); /* gone: who reads anew sees that */
        return -1;
    }
    vault_credential_read(res, 0, 0, r->arena, &r->row);
    if (vault_credential_check(r->tenant, &r->row, &why) < 0) {
        finish(r, &why);
        return -1;
    }
    return 0;
}

static void
read_row(struct refresh *r, ag_db_done *done)
{
    static const char sql[] = "SELECT " VAULT_CREDENTIAL_COLUMNS
                              " FROM vault.credential c WHERE c.id = $1"
                              " AND c.archived_us IS NULL";
    struct ag_db_param params[] = {ag_db_str(ag_str(r->id))};
    ag_db_query(r->o->v->db, ag_str(r->tenant->name), sql, params, 1, done, r);
}

static void
on_audited(void *arg, const char *audit_id, const struct ag_err *err)
{
    struct refresh *r = arg;

    if (audit_id == NULL)
        ag_log(AG_ERROR, "credential.refresh_failed",
               AG_S("tenant", r->tenant->name), AG_S("credential", r->id),
               AG_E(err));
    finish(r, NULL);
}

static void
on_reread(void *arg, const struct ag_db_result *res, const struct ag_err *err);

static void
on_written(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    struct refresh *r = arg;
    struct vault *v = r->o->v;

    if (res == NULL && r->n_writes >= WRITES_MAX) {
        finish(r, err);
        return;
    }
    if (res == NULL || ag_db_rows(res) != 1) {
        read_row(r, on_reread);
        return;
    }
    vault_search_change(r->tenant);
    vault_generation_move(v);
    ag_log(AG_INFO, "credential.refreshed", AG_S("tenant", r->tenant->name),
           AG_S("credential", r->id), AG_I("version", r->row.version));
    char *detail = ag_arena_printf(r->arena, "{\"version\":%lld}",
                                   (long long)r->row.version);
    const struct vault_audit_entry e = {"credential.updated", AG_STR("vault"),
                                        r->row.id, AG_STR(""), ag_str(detail)};
    vault_audit_add(v, r->tenant, &e, on_audited, r);
}

/* The row with the end of the new access token. */
static int
set_expiry(struct refresh *r, struct ag_err *err)
{
    AG_AUTO(ag_json_decref) json_t *j = ag_json_parse(r->row.auth, err);
    AG_AUTO(ag_buf_release) struct ag_buf text = AG_BUF_INIT(256 * 1024);

    if (j == NULL)
        return -1;
    json_object_set_new(j, "expires_at", json_string(r->expires));
    if (ag_json_dump(j, &text, err) < 0)
        return -1;
    r->row.auth = ag_arena_copy(r->arena, ag_buf_str(&text));
    return 0;
}

static void
write_row(struct refresh *r)
{
    static const char sql[] =
        "UPDATE vault.credential SET auth = $2, sealed = $3,"
        " version = $4::integer, updated_us = $5::bigint, mac = $6,"
        " key_version = $7::integer WHERE id = $1 AND mac = $8 RETURNING id";
    struct vault_credential_row *row = &r->row;
    struct ag_err err = AG_ERR_INIT;
    unsigned char mac[VAULT_MAC_BYTES];
    ag_str_t before = row->mac;

    r->n_writes++;
    row->version++;
    row->updated_us = ag_now_us();
    if (set_expiry(r, &err) < 0
        || vault_credential_seal(r->tenant, row, ag_buf_str(&r->sealed),
                                 r->arena, &err)
               < 0) {
        finish(r, &err);
        return;
    }
    vault_credential_mac(r->tenant, row, mac);
    struct ag_db_param params[] = {
        ag_db_str(row->id),          ag_db_str(row->auth),
        ag_db_bytes(row->sealed),    ag_db_int(row->version),
        ag_db_int(row->updated_us),  ag_db_bytes(ag_str_n(mac, sizeof(mac))),
        ag_db_int(row->key_version), ag_db_bytes(before)};
    ag_db_query(r->o->v->db, ag_str(r->tenant->name), sql, params, 8,
                on_written, r);
}

/* The row is another: sealed anew or renamed, and is written again, or it has
 * another value already. */
static void
on_reread(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    struct refresh *r = arg;

    if (res == NULL && r->n_writes++ < WRITES_MAX) {
        read_row(r, on_reread);
        return;
    }
    if (take_row(r, res, err) < 0)
        return;
    if (r->row.version == r->version)
        write_row(r);
    else
        finish(r, NULL);
}

/* ---- the endpoint ------------------------------------------------------ */

static int
read_answer(struct refresh *r, int status, struct ag_err *err)
{
    AG_AUTO(ag_secret_release) ag_secret_t all = AG_SECRET_INIT;
    struct ag_err ignored = AG_ERR_INIT;
    struct vault_oauth_secrets secrets;
    int64_t seconds = r->o->v->conf->oauth_seconds;

    if (status != 200)
        return ag_err_set(err, AG_ERR_UNAVAILABLE,
                          "the token endpoint answered %d", status);
    AG_AUTO(ag_json_decref)
    json_t *j = ag_json_parse(ag_buf_str(&r->answer), &ignored);
    if (vault_credential_open_all(r->tenant, &r->row, &all, err) < 0
        || vault_oauth_split(ag_secret_view(&all), &secrets, err) < 0)
        return -1;
    if (vault_oauth_answer(j, &secrets, &seconds, err) < 0)
        return ag_err_wrap(err, "the token endpoint's answer");
    int64_t at = (ag_now_us() / 1000000 + seconds) * 1000000;
    time_t t = (time_t)(at / 1000000);
    struct tm tm;
    (void)strftime(r->expires, sizeof(r->expires), "%Y-%m-%dT%H:%M:%SZ",
                   gmtime_r(&t, &tm));
    return vault_oauth_join(&secrets, &r->sealed, err);
}

static void
on_answer(void *arg, int status, const struct ag_err *err)
{
    struct refresh *r = arg;
    struct ag_err why = AG_ERR_INIT;

    r->http = NULL;
    if (err != NULL) {
        why = *err;
        ag_err_wrap(&why, "the token endpoint");
        finish(r, &why);
    } else if (read_answer(r, status, &why) < 0) {
        finish(r, &why);
    } else {
        write_row(r);
    }
}

static int
on_data(void *arg, int status, ag_str_t bytes)
{
    struct refresh *r = arg;
    struct ag_err ignored = AG_ERR_INIT;

    (void)status;
    return ag_buf_append(&r->answer, bytes, &ignored);
}

static int
ask(struct refresh *r, struct ag_err *err)
{
    static const char *const headers[] = {
        "Content-Type: application/x-www-form-urlencoded",
        "Accept: application/json", "Expect:", NULL};
    AG_AUTO(ag_buf_wipe) struct ag_buf body = AG_BUF_INIT(4 * VAULT_PLAIN_MAX);
    AG_AUTO(ag_secret_release) ag_secret_t all = AG_SECRET_INIT;
    AG_AUTO(ag_json_decref) json_t *j = ag_json_parse(r->row.auth, err);
    const json_t *refresh = json_object_get(j, "refresh");
    const char *url =
        json_string_value(json_object_get(refresh, "token_endpoint"));
    const struct vault_conf *conf = r->o->v->conf;
    struct vault_oauth_secrets secrets;

    if (url == NULL)
        return ag_err_set(err, AG_ERR_CORRUPT, "there is no token_endpoint");
    const struct vault_destination *dest =
        vault_oauth_destination(&r->o->v->deployment, url, err);
    if (dest == NULL)
        return ag_err_wrap(err, "token_endpoint");
    if (vault_credential_open_all(r->tenant, &r->row, &all, err) < 0
        || vault_oauth_split(ag_secret_view(&all), &secrets, err) < 0
        || vault_oauth_ask(refresh, &secrets, &body, err) < 0)
        return -1;
    const struct ag_http_post post = {.url = url,
                                      .proxy_path = conf->bridge,
                                      .ca_file = dest->ca_file,
                                      .headers = headers,
                                      .body = ag_buf_str(&body),
                                      .timeout_ms = conf->oauth_timeout_ms};
    r->version = r->row.version;
    r->http = ag_http_post(r->o->http, &post, NULL, on_data, on_answer, r);
    return 0;
}

static void
on_row(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    struct refresh *r = arg;
    struct ag_err why = AG_ERR_INIT;

    if (take_row(r, res, err) < 0)
        return;
    int64_t left = vault_oauth_expires_us(r->row.auth) - ag_now_us();
    if (left > r->o->v->conf->oauth_ahead_seconds * 1000000) {
        finish(r, NULL);
        return;
    }
    if (r->o->is_stopping)
        ag_err_set(&why, AG_ERR_UNAVAILABLE, "the vault is stopping");
    if (r->o->is_stopping || ask(r, &why) < 0)
        finish(r, &why);
}

/* ---- from outside ------------------------------------------------------ */

static void
add_waiter(struct refresh *r, vault_oauth_done *done, void *arg)
{
    struct waiter *w = ag_xcalloc(1, sizeof(*w));

    *w = (struct waiter){r->waiters, done, arg};
    r->waiters = w;
}

void
vault_oauth_refresh(struct vault_oauth *o, struct vault_tenant *tenant,
                    ag_str_t credential_id, vault_oauth_done *done, void *arg)
{
    struct refresh *r = o->list;

    while (r != NULL && !ag_str_is(credential_id, r->id))
        r = r->next;
    if (r != NULL && r->has_failed) {
        done(arg, &r->err);
        return;
    }
    if (r == NULL) {
        r = ag_xcalloc(1, sizeof(*r));
        r->o = o;
        r->tenant = tenant;
        r->id = ag_str_dup(credential_id);
        r->arena = ag_arena_new();
        r->later.fn = on_later;
        ag_buf_init(&r->answer, VAULT_PLAIN_MAX);
        ag_buf_init(&r->sealed, VAULT_PLAIN_MAX);
        r->next = o->list;
        o->list = r;
        add_waiter(r, done, arg);
        read_row(r, on_row);
        return;
    }
    add_waiter(r, done, arg);
}

struct vault_oauth *
vault_oauth_new(struct vault *v, struct ag_err *err)
{
    struct vault_oauth *o = ag_xcalloc(1, sizeof(*o));

    o->v = v;
    o->http = ag_http_new(v->loop, err);
    if (o->http == NULL) {
        free(o);
        return NULL;
    }
    return o;
}

void
vault_oauth_stop(struct vault_oauth *o)
{
    struct refresh *r, *next;
    struct ag_err err = AG_ERR_INIT;

    if (o == NULL)
        return;
    o->is_stopping = true;
    ag_err_set(&err, AG_ERR_UNAVAILABLE, "the vault is stopping");
    for (r = o->list; r != NULL; r = next) {
        next = r->next;
        if (r->http == NULL)
            continue;
        ag_http_cancel(ag_take(&r->http));
        finish(r, &err);
    }
}

void
vault_oauth_free(struct vault_oauth *o)
{
    if (o == NULL)
        return;
    while (o->list != NULL)
        refresh_free(o->list);
    ag_http_free(o->http);
    free(o);
}
