/*
 * Options from a table: defaults, file, environment, command line; --help,
 * --check and --reference from the same table. Runs before threads start.
 */
#include "lib/conf.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define FILE_MAX_BYTES (64 * 1024)

static const char *const type_names[] = {"text", "integer", "bool"};

static char *
slot_of(void *out, const struct ag_conf_option *o)
{
    return (char *)out + o->offset;
}

static void
put_str(void *out, const struct ag_conf_option *o, ag_str_t v)
{
    char **slot = (char **)(void *)slot_of(out, o);

    free(*slot);
    *slot = ag_str_dup(v);
}

static int
put_int(void *out, const struct ag_conf_option *o, ag_str_t v,
        struct ag_err *err)
{
    int64_t n;

    if (ag_str_i64(v, &n) < 0)
        return ag_err_set(err, AG_ERR_INVALID, "%s: \"%.*s\" is not an integer",
                          o->name, AG_FMT(v));
    if (n < o->min || n > o->max)
        return ag_err_set(err, AG_ERR_INVALID,
                          "%s: %lld is not between %lld and %lld", o->name,
                          (long long)n, (long long)o->min, (long long)o->max);
    memcpy(slot_of(out, o), &n, sizeof(n));
    return 0;
}

static int
put_bool(void *out, const struct ag_conf_option *o, ag_str_t v,
         struct ag_err *err)
{
    bool on = ag_str_is(v, "true") || ag_str_is(v, "yes") || ag_str_is(v, "1");

    if (!on && !ag_str_is(v, "false") && !ag_str_is(v, "no")
        && !ag_str_is(v, "0"))
        return ag_err_set(err, AG_ERR_INVALID,
                          "%s: \"%.*s\" is neither true nor false", o->name,
                          AG_FMT(v));
    memcpy(slot_of(out, o), &on, sizeof(on));
    return 0;
}

static int
put(void *out, const struct ag_conf_option *o, ag_str_t v, struct ag_err *err)
{
    switch (o->type) {
    case AG_CONF_INT:
        return put_int(out, o, v, err);
    case AG_CONF_BOOL:
        return put_bool(out, o, v, err);
    case AG_CONF_STR:
        if (o->max > 0 && (v.n < (size_t)o->min || v.n > (size_t)o->max))
            return ag_err_set(err, AG_ERR_INVALID,
                              "%s: must have %lld to %lld bytes", o->name,
                              (long long)o->min, (long long)o->max);
        put_str(out, o, v);
        return 0;
    }
    return 0;
}

/* '-' and '_' are the same in a name. */
static bool
name_is(const char *name, ag_str_t given)
{
    size_t i = 0;

    for (; i < given.n && name[i] != '\0'; i++)
        if (name[i] != given.p[i] && !(name[i] == '_' && given.p[i] == '-'))
            return false;
    return i == given.n && name[i] == '\0';
}

static const struct ag_conf_option *
find(const struct ag_conf *conf, ag_str_t name)
{
    for (size_t i = 0; i < conf->n_options; i++)
        if (name_is(conf->options[i].name, name))
            return &conf->options[i];
    return NULL;
}

static int
load_line(const struct ag_conf *conf, void *out, ag_str_t line,
          struct ag_err *err)
{
    const struct ag_conf_option *o;
    ag_str_t name;

    line = ag_str_trim(line);
    if (line.n == 0 || line.p[0] == '#')
        return 0;
    if (ag_str_chr(line, '=') < 0)
        return ag_err_set(err, AG_ERR_INVALID, "expected \"name = value\"");
    (void)ag_str_cut(&line, '=', &name);
    name = ag_str_trim(name);
    o = find(conf, name);
    if (o == NULL)
        return ag_err_set(err, AG_ERR_INVALID,
                          "unknown option \"%.*s\" (--help lists them)",
                          AG_FMT(name));
    return put(out, o, ag_str_trim(line), err);
}

static int
load_file(const struct ag_conf *conf, void *out, const char *path,
          struct ag_err *err)
{
    AG_AUTO(ag_buf_release) struct ag_buf text = AG_BUF_INIT(FILE_MAX_BYTES);
    FILE *f = fopen(path, "re");
    ag_str_t rest, line;
    char part[4096];
    size_t n;
    int at = 0;

    if (f == NULL)
        return ag_err_sys(err, "%s", path);
    while ((n = fread(part, 1, sizeof(part), f)) > 0) {
        if (ag_buf_append(&text, ag_str_n(part, n), err) < 0) {
            (void)fclose(f);
            return ag_err_wrap(err, "%s", path);
        }
    }
    (void)fclose(f);
    for (rest = ag_buf_str(&text); ag_str_cut(&rest, '\n', &line);) {
        at++;
        if (load_line(conf, out, line, err) < 0)
            return ag_err_wrap(err, "%s:%d", path, at);
    }
    return 0;
}

static void
print_help(const struct ag_conf *conf)
{
    printf("%s: %s\n\nusage: %s %s\n\n", conf->program, conf->summary,
           conf->program, conf->usage);
    for (size_t i = 0; i < conf->n_options; i++) {
        const struct ag_conf_option *o = &conf->options[i];

        printf("  --%s=%s\n        %s", o->name,
               o->unit[0] != '\0' ? o->unit : type_names[o->type], o->help);
        if (o->def == NULL)
            printf(" (required)");
        else if (o->def[0] != '\0')
            printf(" (default: %s)", o->def);
        if (o->env != NULL)
            printf(" [$%s]", o->env);
        printf("\n");
    }
    printf("  --config=path\n        file with lines \"name = value\"\n"
           "  --check\n        check the configuration and exit\n"
           "  --reference\n        print the table of options and exit\n"
           "  --help\n        print this and exit\n");
}

static void
print_reference(const struct ag_conf *conf)
{
    printf("## %s\n\n| Option | Type | Default | Range | Meaning |\n"
           "|---|---|---|---|---|\n",
           conf->program);
    for (size_t i = 0; i < conf->n_options; i++) {
        const struct ag_conf_option *o = &conf->options[i];

        printf("| `%s` | %s%s%s | ", o->name, type_names[o->type],
               o->unit[0] != '\0' ? ", " : "", o->unit);
        if (o->def == NULL)
            printf("required | ");
        else
            printf("%s%s%s | ", o->def[0] != '\0' ? "`" : "", o->def,
                   o->def[0] != '\0' ? "`" : "");
        if (o->type == AG_CONF_INT)
            printf("%lld–%lld | ", (long long)o->min, (long long)o->max);
        else
            printf("| ");
        printf("%s%s%s%s |\n", o->help, o->env != NULL ? " (`$" : "",
               o->env != NULL ? o->env : "", o->env != NULL ? "`)" : "");
    }
}

/*
 * The option in argv[*i] and its value, which may be the next word; advances
 * *i over what it used.
 */
static int
load_word(const struct ag_conf *conf, void *out, int argc, char **argv, int *i,
          struct ag_err *err)
{
    ag_str_t rest = ag_str(argv[*i] + 2), name;
    bool has_value = ag_str_chr(rest, '=') >= 0;
    const struct ag_conf_option *o;

    (void)ag_str_cut(&rest, '=', &name);
    o = find(conf, name);
    if (o == NULL)
        return ag_err_set(err, AG_ERR_INVALID,
                          "unknown option --%.*s (--help lists them)",
                          AG_FMT(name));
    if (!has_value && o->type == AG_CONF_BOOL) {
        rest = AG_STR("true");
    } else if (!has_value) {
        if (*i + 1 >= argc)
            return ag_err_set(err, AG_ERR_INVALID, "--%s: needs a value",
                              o->name);
        rest = ag_str(argv[++*i]);
    }
    return put(out, o, rest, err);
}

static int
load_defaults(const struct ag_conf *conf, void *out, struct ag_err *err)
{
    for (size_t i = 0; i < conf->n_options; i++) {
        const struct ag_conf_option *o = &conf->options[i];

        if (o->type == AG_CONF_STR)
            put_str(out, o, ag_str(o->def == NULL ? "" : o->def));
        else if (put(out, o, ag_str(o->def), err) < 0)
            return -1;
    }
    return 0;
}

static int
load_environment(const struct ag_conf *conf, void *out, struct ag_err *err)
{
    for (size_t i = 0; i < conf->n_options; i++) {
        const struct ag_conf_option *o = &conf->options[i];
        const char *v = o->env == NULL ? NULL : getenv(o->env);

        if (v != NULL && v[0] != '\0' && put(out, o, ag_str(v), err) < 0)
            return ag_err_wrap(err, "environment variable %s", o->env);
    }
    return 0;
}

static int
check_required(const struct ag_conf *conf, void *out, struct ag_err *err)
{
    for (size_t i = 0; i < conf->n_options; i++) {
        const struct ag_conf_option *o = &conf->options[i];

        if (o->def == NULL && o->type == AG_CONF_STR
            && (*(char **)(void *)slot_of(out, o))[0] == '\0')
            return ag_err_set(err, AG_ERR_INVALID, "--%s is required: %s",
                              o->name, o->help);
    }
    return 0;
}

/* --config, --help and --reference come before the rest is read. */
static int
load_first(const struct ag_conf *conf, int argc, char **argv, void *out,
           bool *is_check, struct ag_err *err)
{
    for (int i = 1; i < argc; i++) {
        ag_str_t word = ag_str(argv[i]);

        if (ag_str_is(word, "--"))
            break;
        if (ag_str_is(word, "--help") || ag_str_is(word, "-h")) {
            print_help(conf);
            exit(0);
        }
        if (ag_str_is(word, "--reference")) {
            print_reference(conf);
            exit(0);
        }
        if (ag_str_is(word, "--check"))
            *is_check = true;
        if (ag_str_starts(word, AG_STR("--config="))
            && load_file(conf, out, argv[i] + 9, err) < 0)
            return -1;
        if (ag_str_is(word, "--config") && i + 1 < argc
            && load_file(conf, out, argv[i + 1], err) < 0)
            return -1;
    }
    return 0;
}

int
ag_conf_load(const struct ag_conf *conf, int argc, char **argv, void *out,
             int *n_words, struct ag_err *err)
{
    bool is_check = false, only_words = false;
    int words = 0;

    if (load_defaults(conf, out, err) < 0
        || load_first(conf, argc, argv, out, &is_check, err) < 0
        || load_environment(conf, out, err) < 0)
        return -1;
    for (int i = 1; i < argc; i++) {
        ag_str_t word = ag_str(argv[i]);

        if (only_words || !ag_str_starts(word, AG_STR("--"))) {
            argv[words++] = argv[i];
        } else if (word.n == 2) {
            only_words = true;
        } else if (ag_str_is(word, "--config")) {
            i++;
        } else if (!ag_str_is(word, "--check")
                   && !ag_str_starts(word, AG_STR("--config="))
                   && load_word(conf, out, argc, argv, &i, err) < 0) {
            return -1;
        }
    }
    if (check_required(conf, out, err) < 0)
        return -1;
    if (is_check) {
        printf("configuration is valid\n");
        exit(0);
    }
    *n_words = words;
    return 0;
}

void
ag_conf_release(const struct ag_conf *conf, void *out)
{
    for (size_t i = 0; i < conf->n_options; i++) {
        const struct ag_conf_option *o = &conf->options[i];

        if (o->type == AG_CONF_STR) {
            char **slot = (char **)(void *)slot_of(out, o);

            free(*slot);
            *slot = NULL;
        }
    }
}
