/*
 * Slots: the places of a request in which a stub may stand. Pure.
 *
 * As text: "header:<name>" (lower case), "basic", "query:<name>", "path",
 * "body".
 */
#ifndef VAULT_SLOT_H
#define VAULT_SLOT_H

#include "lib/buf.h"

/* Where a stub was found; numbers of proto SlotKind. */
enum vault_slot {
    VAULT_SLOT_NONE,
    VAULT_SLOT_HEADER, /* name: of the header, lower case */
    VAULT_SLOT_BASIC,  /* name: "user" or "password" */
    VAULT_SLOT_QUERY,  /* name: of the parameter */
    VAULT_SLOT_PATH,
    VAULT_SLOT_BODY, /* name: "json", "form" or "text" */
};

/* Token characters of RFC 9110, 1 to 64 of them. */
bool vault_is_token(ag_str_t s);

/*
 * Check a slot as a person writes it and append the canonical text.
 * AG_ERR_INVALID says what a slot is, or why this header cannot be one.
 */
int vault_slot_check(ag_str_t in, struct ag_buf *out, struct ag_err *err);

enum { VAULT_SLOT_TEXT = 80 };

/* The canonical text of where a stub was found; false when it is no slot. */
bool
vault_slot_text(enum vault_slot slot, ag_str_t name, char out[VAULT_SLOT_TEXT]);

#endif
