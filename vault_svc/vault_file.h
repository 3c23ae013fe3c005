/* Small whole files: read with a limit, written so that nobody sees half. */
#ifndef VAULT_FILE_H
#define VAULT_FILE_H

#include <sys/types.h>

#include "lib/buf.h"

/* Append the file's bytes; AG_ERR_LIMIT when it is longer than `out` takes. */
int vault_file_read(const char *path, struct ag_buf *out, struct ag_err *err);

/*
 * Write `text` to a temporary file beside `path`, give it exactly `mode`, sync
 * and rename it. With `exclusive` an existing file is AG_ERR_EXISTS.
 */
int vault_file_write(const char *path, ag_str_t text, mode_t mode,
                     bool exclusive, struct ag_err *err);

#endif
