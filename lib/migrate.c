/*
 * Migrations: apply the SQL files of a folder in order. Blocking; runs in
 * `<svc> --migrate` as the owner role, before the service starts.
 */
#include "lib/migrate.h"

#include <dirent.h>
#include <errno.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/buf.h"
#include "lib/log.h"
#include "lib/secret.h"

#define FILE_MAX_BYTES (4 * 1024 * 1024)

static void
pg_closep(PGconn **pg)
{
    PQfinish(*pg);
}

static void
pg_clearp(PGresult **res)
{
    PQclear(*res);
}

static void
names_release(struct dirent ***names)
{
    free(*names);
}

static int
set_error(struct ag_err *err, PGconn *pg, const char *what)
{
    char text[160];

    (void)snprintf(text, sizeof(text), "%s", PQerrorMessage(pg));
    text[strcspn(text, "\n")] = '\0';
    return ag_err_set(err, AG_ERR_IO, "%s: %s", what, text);
}

static int
run(PGconn *pg, const char *sql, const char *what, struct ag_err *err)
{
    AG_AUTO(pg_clearp) PGresult *res = PQexec(pg, sql);
    ExecStatusType status = PQresultStatus(res);

    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK)
        return set_error(err, pg, what);
    return 0;
}

static int
read_file(const char *path, struct ag_buf *out, struct ag_err *err)
{
    FILE *f = fopen(path, "re");
    char part[8192];
    size_t n;

    if (f == NULL)
        return ag_err_sys(err, "%s", path);
    while ((n = fread(part, 1, sizeof(part), f)) > 0) {
        if (ag_buf_append(out, ag_str_n(part, n), err) < 0) {
            (void)fclose(f);
            return ag_err_wrap(err, "%s", path);
        }
    }
    (void)fclose(f);
    return 0;
}

/* 1 when `name` was applied with this digest, 0 when not, -1 with err. */
static int
is_applied(PGconn *pg, const char *schema, const char *name, const char *digest,
           struct ag_err *err)
{
    char sql[160];
    AG_AUTO(pg_clearp) PGresult *res = NULL;

    (void)snprintf(sql, sizeof(sql),
                   "SELECT digest FROM %s.migration WHERE name = $1", schema);
    res = PQexecParams(pg, sql, 1, NULL, &name, NULL, NULL, 0);
    if (PQresultStatus(res) != PGRES_TUPLES_OK)
        return set_error(err, pg, "read the list of migrations");
    if (PQntuples(res) == 0)
        return 0;
    if (strcmp(PQgetvalue(res, 0, 0), digest) != 0)
        return ag_err_set(err, AG_ERR_CORRUPT,
                          "%s was applied and has changed since: migrations "
                          "only go forward, add a new file",
                          name);
    return 1;
}

static int
apply(PGconn *pg, const char *schema, const char *dir, const char *name,
      int *applied, struct ag_err *err)
{
    AG_AUTO(ag_buf_release) struct ag_buf sql = AG_BUF_INIT(FILE_MAX_BYTES);
    AG_AUTO(ag_buf_release) struct ag_buf hex = AG_BUF_INIT(64);
    char path[512], record[160];
    unsigned char digest[32];
    const char *values[2];
    AG_AUTO(pg_clearp) PGresult *res = NULL;
    int done;

    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    if (read_file(path, &sql, err) < 0)
        return -1;
    ag_sha256(ag_buf_str(&sql), digest);
    ag_buf_add_hex(&hex, ag_str_n(digest, sizeof(digest)));
    done = is_applied(pg, schema, name, ag_buf_cstr(&hex), err);
    if (done != 0)
        return done < 0 ? -1 : 0;
    if (run(pg, "BEGIN", "begin", err) < 0
        || run(pg, ag_buf_cstr(&sql), name, err) < 0)
        return -1;
    (void)snprintf(record, sizeof(record),
                   "INSERT INTO %s.migration (name, digest) VALUES ($1, $2)",
                   schema);
    values[0] = name;
    values[1] = ag_buf_cstr(&hex);
    res = PQexecParams(pg, record, 2, NULL, values, NULL, NULL, 0);
    if (PQresultStatus(res) != PGRES_COMMAND_OK)
        return set_error(err, pg, "record the migration");
    if (run(pg, "COMMIT", "commit", err) < 0)
        return -1;
    ag_log(AG_INFO, "migration.applied", AG_S("schema", schema),
           AG_S("name", name));
    ++*applied;
    return 0;
}

static int
is_migration(const struct dirent *e)
{
    ag_str_t name = ag_str(e->d_name);

    return name.n > 9 && name.p[4] == '_' && strspn(name.p, "0123456789") == 4
           && ag_str_ends(name, AG_STR(".sql"));
}

int
ag_migrate(const char *conninfo, const char *schema, const char *dir,
           int *applied, struct ag_err *err)
{
    AG_AUTO(pg_closep) PGconn *pg = PQconnectdb(conninfo);
    AG_AUTO(names_release) struct dirent **names = NULL;
    char sql[512];
    int n, rc = 0;

    *applied = 0;
    if (PQstatus(pg) != CONNECTION_OK)
        return set_error(err, pg, "connect as the owner");
    (void)snprintf(sql, sizeof(sql),
                   "SET client_min_messages = warning;"
                   "SELECT pg_advisory_lock(hashtext('brainbox.%s'));"
                   /* The owner of the schema need not be the database's. */
                   "DO $$ BEGIN IF to_regnamespace('%s') IS NULL THEN "
                   "CREATE SCHEMA %s; END IF; END $$;"
                   "CREATE TABLE IF NOT EXISTS %s.migration ("
                   "name text PRIMARY KEY, digest text NOT NULL, "
                   "applied_at timestamptz NOT NULL DEFAULT now())",
                   schema, schema, schema, schema);
    if (run(pg, sql, "prepare the schema", err) < 0)
        return -1;
    n = scandir(dir, &names, is_migration, alphasort);
    if (n < 0)
        return ag_err_sys(err, "%s", dir);
    for (int i = 0; i < n; i++) {
        if (rc == 0)
            rc = apply(pg, schema, dir, names[i]->d_name, applied, err);
        free(names[i]);
    }
    return rc;
}
