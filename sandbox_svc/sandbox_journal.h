/*
 * Notes of commands that run and whose record may not be committed yet, so
 * that none waits for the disk of the database.
 *
 * A note is in a shared mapping of a file before its command starts: it is
 * there after the death of any process, this one and the database's included.
 * It goes when the record is committed. A crash of the machine may take notes
 * with it; the journal knows that it did not end well, and then says that it is
 * unsure (docs/decisions/0008-notes-instead-of-a-commit.md).
 *
 * On the loop. Does not block, but for opening and closing.
 */
#ifndef SANDBOX_SVC_SANDBOX_JOURNAL_H
#define SANDBOX_SVC_SANDBOX_JOURNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/id.h"

struct ag_err;
struct sandbox_journal;

#define SANDBOX_JOURNAL_TENANT_MAX 64
#define SANDBOX_JOURNAL_CALL_MAX 128

/* What makes a row; each string with its NUL. */
struct sandbox_note {
    int64_t command_bytes;
    char tenant[SANDBOX_JOURNAL_TENANT_MAX + 1];
    char call_id[SANDBOX_JOURNAL_CALL_MAX + 1];
    char session_id[AG_ID_TEXT], sandbox_id[AG_ID_TEXT];
    char environment_id[AG_ID_TEXT];
};

/*
 * Open or make the file `name` in folder `dir`, for one process at a time.
 * Returns NULL with *err:
 *   AG_ERR_CONFLICT  another process has it open
 *   AG_ERR_SYS kinds of the file system
 * A file that is damaged is begun anew, and unsure.
 */
struct sandbox_journal *
sandbox_journal_open(int dir, const char *name, struct ag_err *err);
/* `is_clean`: every command has ended and is recorded. */
void sandbox_journal_close(struct sandbox_journal *j, bool is_clean);

/* The machine went down while commands may have run: a call that has no record
 * may have been started all the same. Until the next clean end. */
bool sandbox_journal_is_unsure(const struct sandbox_journal *j);

/* Returns the number of the note, or -1 when a string is too long or there is
 * no room: the command's record must be committed first then. */
int
sandbox_journal_add(struct sandbox_journal *j, const struct sandbox_note *note);
void sandbox_journal_remove(struct sandbox_journal *j, int number);

/* The next note from `*number` on, which it moves behind it; NULL when there is
 * none. Used at start, for what a predecessor left. */
const struct sandbox_note *
sandbox_journal_next(const struct sandbox_journal *j, int *number);

#endif
