/*
 * What comes in is searched for credentials of known shapes before the brain
 * gets it: one that is pasted into a message would stand in the log, and go to
 * the model. And the rule set, read with the configuration, for both faces.
 * Called by the precontent handler.
 */
#include "ngx_agent_module/ngx_agent_module.h"

#include "ngx_agent_module/ngx_agent_rules.h"


/* ---- the rule set ------------------------------------------------------ */

/* The file's text, in the pool of the configuration. */
static ngx_int_t
ngx_agent_rules_read(ngx_conf_t *cf, ngx_str_t *name, ngx_str_t *text)
{
    ssize_t          n;
    ngx_file_t       file;
    ngx_file_info_t  fi;

    ngx_memzero(&file, sizeof(ngx_file_t));
    file.name = *name;
    file.log = cf->log;
    file.fd = ngx_open_file(name->data, NGX_FILE_RDONLY, NGX_FILE_OPEN, 0);

    if (file.fd == NGX_INVALID_FILE
        || ngx_fd_info(file.fd, &fi) == NGX_FILE_ERROR)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                           "\"%V\" cannot be opened", name);
        n = -1;

    } else {
        text->len = ngx_file_size(&fi);
        text->data = ngx_pnalloc(cf->pool, text->len + 1);
        n = text->data == NULL
            ? -1 : ngx_read_file(&file, text->data, text->len, 0);
    }

    if (file.fd != NGX_INVALID_FILE) {
        (void) ngx_close_file(file.fd);
    }

    return n >= 0 && (size_t) n == text->len ? NGX_OK : NGX_ERROR;
}


static void
ngx_agent_rules_cleanup(void *data)
{
    ngx_agent_rules_free(data);
}


char *
ngx_agent_rules_slot(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    char  *p = conf;

    ngx_str_t                *value, text;
    struct ag_err             err = AG_ERR_INIT;
    ngx_pool_cleanup_t       *cln;
    struct ngx_agent_rules  **rules;

    rules = (struct ngx_agent_rules **) (p + cmd->offset);

    if (*rules != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }

    value = cf->args->elts;
    cln = ngx_pool_cleanup_add(cf->pool, 0);

    if (cln == NULL || ngx_conf_full_name(cf->cycle, &value[1], 1) != NGX_OK
        || ngx_agent_rules_read(cf, &value[1], &text) != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    *rules = ngx_agent_rules_new(ag_str_n(text.data, text.len), &err);

    if (*rules == NULL) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "%V: %s", &value[1],
                           err.msg);
        return NGX_CONF_ERROR;
    }

    cln->handler = ngx_agent_rules_cleanup;
    cln->data = *rules;

    return NGX_CONF_OK;
}


/* ---- what comes in ------------------------------------------------------ */

ngx_uint_t
ngx_agent_inbound_wants(ngx_agent_ctx_t *ctx, ngx_agent_loc_conf_t *lcf)
{
    return lcf->rules != NULL && lcf->pasted != NGX_AGENT_PASTED_OFF
           && ctx->match.route->service == NGX_AGENT_BRAIN
           && ctx->match.route->body[0] != '\0';
}


/* The shape that decides: the first that is more than a line in the log. */
static const char *
ngx_agent_inbound_find(ngx_http_request_t *r, ngx_agent_ctx_t *ctx,
    struct ngx_agent_rules_scan *scan)
{
    unsigned     i;
    const char  *shape;

    shape = NULL;

    for (i = 0; i < scan->n_hits; i++) {
        ngx_log_error(NGX_LOG_WARN, r->connection->log, 0,
                      "agent %V holds a credential of shape \"%s\"",
                      &ctx->request_id,
                      ngx_agent_rules_name(scan->rules, scan->hits[i].rule));

        if (shape == NULL
            && !ngx_agent_rules_only_log(scan->rules, scan->hits[i].rule))
        {
            shape = ngx_agent_rules_name(scan->rules, scan->hits[i].rule);
        }
    }

    return shape;
}


ngx_int_t
ngx_agent_inbound_check(ngx_http_request_t *r, ngx_agent_ctx_t *ctx,
    ngx_agent_loc_conf_t *lcf, ag_str_t body)
{
    int                          rc;
    const char                  *shape;
    struct ag_err                err = AG_ERR_INIT;
    struct ngx_agent_rules_scan  scan;

    if (!ngx_agent_inbound_wants(ctx, lcf)) {
        return NGX_OK;
    }

    shape = NULL;
    rc = ngx_agent_rules_scan_init(&scan, lcf->rules, &err);

    if (rc == 0) {
        rc = ngx_agent_rules_scan_feed(&scan, body, &err);
    }

    if (rc == 0) {
        ngx_agent_rules_scan_end(&scan);
        shape = ngx_agent_inbound_find(r, ctx, &scan);
    }

    ngx_agent_rules_scan_release(&scan);

    if (rc < 0) {
        return ngx_agent_fail_kind(r, ctx, &err);
    }

    if (shape == NULL || lcf->pasted == NGX_AGENT_PASTED_LOG) {
        return NGX_OK;
    }

    ag_err_set(&err, AG_ERR_INVALID,
               "the body holds what looks like a credential (shape %s): put "
               "it into a vault, where the agent gets a stub for it",
               shape);

    return ngx_agent_fail_kind(r, ctx, &err);
}
