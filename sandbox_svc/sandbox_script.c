/*
 * The script of a command, in POSIX sh. For sandbox_exec.c.
 *
 * The command is one quoted word after `eval`: whatever it holds, nothing of
 * it is read as part of the script.
 */
#include "sandbox_svc/sandbox_script.h"

#include "sandbox_svc/init_proto.h"

#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)

/* The descriptor is the script's own, not the command's. */
#define CLOSE "exec " TEXT(INIT_SCRIPT_FD) "<&-\n"
#define BEGIN "cd /workspace 2>/dev/null\n"
/* `cd` sets OLDPWD, which belongs to the commands. */
#define GO_ON                                            \
    "set -- \"${OLDPWD-}\"\n"                            \
    "{ cd -- \"$PWD\" || cd /workspace; } 2>/dev/null\n" \
    "OLDPWD=$1\n"                                        \
    "shift\n"
/* A command with a trap of its own at its end, or that becomes another
 * program, leaves the file as it was. The redirections are the group's: one
 * that fails at `export` itself would end the shell (POSIX 2.8.1), and one that
 * fails under `set -e` would change its status. */
#define REMEMBER                              \
    "trap '{ export PWD OLDPWD; export -p; }" \
    " 2>/dev/null >" INIT_STATE_PATH " || :' EXIT\n"

static void
add_quoted(struct ag_buf *out, ag_str_t s)
{
    ag_str_t part;

    ag_buf_addc(out, '\'');
    while (ag_str_cut(&s, '\'', &part)) {
        ag_buf_add(out, part);
        if (s.p != NULL)
            ag_buf_add(out, AG_STR("'\\''"));
    }
    ag_buf_addc(out, '\'');
}

/* Names were checked by sandbox_env_add. */
static void
add_export(struct ag_buf *out, const char *variable)
{
    ag_str_t value = ag_str(variable), name;

    ag_str_cut(&value, '=', &name);
    ag_buf_addf(out, "export %.*s=", AG_FMT(name));
    add_quoted(out, value);
    ag_buf_addc(out, '\n');
}

void
sandbox_script_add(struct ag_buf *out, ag_str_t command, ag_str_t env)
{
    ag_buf_add(out, AG_STR(CLOSE));
    ag_buf_add(out, env.n > 0 ? AG_STR(BEGIN) : AG_STR(GO_ON));
    for (const char *v = env.p, *end = env.p + env.n; v < end;
         v += strlen(v) + 1)
        add_export(out, v);
    ag_buf_add(out, AG_STR(REMEMBER "eval "));
    add_quoted(out, command);
    /* The other end stays open: it tells whether the script was read. */
    ag_buf_add(out, AG_STR("\nexit\n"));
}
