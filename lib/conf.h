/*
 * A service's options: one table drives the command line, the configuration
 * file, --help, --check and docs/config.md.
 *
 * Sources, the later wins: default, file (--config FILE, lines `name = value`,
 * `#` comments), environment variable where the option names one, command line
 * (--name=value or --name value; a bool may stand alone). Names use '_' in the
 * file and '-' or '_' on the command line. Unknown names are fatal.
 */
#ifndef LIB_CONF_H
#define LIB_CONF_H

#include "lib/buf.h"

enum ag_conf_type { AG_CONF_STR, AG_CONF_INT, AG_CONF_BOOL };

struct ag_conf_option {
    const char *name;
    enum ag_conf_type type;
    const char *unit; /* "ms", "bytes", "path", …; "" when none */
    const char *def;  /* default in text; NULL makes it required */
    int64_t min, max; /* for AG_CONF_INT; for AG_CONF_STR the length */
    const char *env;  /* environment variable, or NULL */
    size_t offset;    /* of a `char *`, `int64_t` or `bool` in the struct */
    const char *help;
};

struct ag_conf {
    const char *program; /* "brain_svc" */
    const char *summary; /* one line */
    const char *usage;   /* after the program's name: "[options] [command]" */
    const struct ag_conf_option *options;
    size_t n_options;
};

/*
 * Fill `out` from all sources. Words that are no options are left, in order,
 * in argv[0..*n_words-1]. --help prints and exits 0; --check reads everything,
 * prints "configuration is valid" and exits 0; --reference prints the table
 * for docs/config.md and exits 0.
 */
int ag_conf_load(const struct ag_conf *conf, int argc, char **argv, void *out,
                 int *n_words, struct ag_err *err);
/* Frees the strings in `out`. */
void ag_conf_release(const struct ag_conf *conf, void *out);

#endif
