/*
 * Environment of commands. Each tool has its own idea of where to look for
 * certificates; all of them are told, since egress shows leaves of our root.
 */
#include "sandbox_svc/sandbox_env.h"

static const char *const defaults[][2] = {
    {"PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
    {"HOME", "/root"},
    {"USER", "root"},
    {"LANG", "C.UTF-8"},
    {"TERM", "dumb"},
    {"DEBIAN_FRONTEND", "noninteractive"},
};

static const char *const certificates[][2] = {
    {"SSL_CERT_FILE", SANDBOX_CA_BUNDLE},
    {"CURL_CA_BUNDLE", SANDBOX_CA_BUNDLE},
    {"REQUESTS_CA_BUNDLE", SANDBOX_CA_BUNDLE},
    {"GIT_SSL_CAINFO", SANDBOX_CA_BUNDLE},
    {"NODE_EXTRA_CA_CERTS", SANDBOX_CA_FILE},
};

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static void
add(struct ag_buf *env, const char *name, const char *value)
{
    ag_buf_addf(env, "%s=%s", name, value);
    ag_buf_addc(env, 0);
}

static bool
is_set(const struct ag_buf *env, const char *name)
{
    size_t n = strlen(name);

    for (const char *p = env->p, *end = env->p + env->n; p < end;
         p += strlen(p) + 1)
        if (strncmp(p, name, n) == 0 && p[n] == '=')
            return true;
    return false;
}

int
sandbox_env_base(struct ag_buf *env)
{
    int n = (int)COUNT(certificates);

    for (size_t i = 0; i < COUNT(certificates); i++)
        add(env, certificates[i][0], certificates[i][1]);
    for (size_t i = 0; i < COUNT(defaults); i++) {
        if (is_set(env, defaults[i][0]))
            continue;
        add(env, defaults[i][0], defaults[i][1]);
        n++;
    }
    return n;
}

static bool
is_name(const char *name)
{
    for (const char *p = name; *p != 0; p++)
        if (!((*p >= 'A' && *p <= 'Z') || (*p >= 'a' && *p <= 'z') || *p == '_'
              || (p > name && *p >= '0' && *p <= '9')))
            return false;
    return *name != 0;
}

int
sandbox_env_add(struct ag_buf *env, const char *name, const char *value,
                struct ag_err *err)
{
    if (!is_name(name))
        return ag_err_set(err, AG_ERR_INVALID,
                          "environment: \"%.40s\" is no name of a variable",
                          name);
    for (size_t i = 0; i < COUNT(certificates); i++)
        if (strcmp(name, certificates[i][0]) == 0)
            return ag_err_set(err, AG_ERR_INVALID,
                              "environment: %s is the platform's", name);
    if (is_set(env, name))
        return ag_err_set(err, AG_ERR_INVALID, "environment: %s is set twice",
                          name);
    if (env->n + strlen(name) + strlen(value) + 2 > SANDBOX_ENV_MAX)
        return ag_err_set(err, AG_ERR_LIMIT, "environment: more than %d bytes",
                          SANDBOX_ENV_MAX);
    add(env, name, value);
    return 0;
}
