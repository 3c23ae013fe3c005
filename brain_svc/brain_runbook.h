/*
 * Runbooks: the fenced code blocks of a Markdown text whose info string is
 * sh, bash or shell (CommonMark 0.30, 4.5: fenced code blocks).
 */
#ifndef BRAIN_RUNBOOK_H
#define BRAIN_RUNBOOK_H

#include "lib/buf.h"

struct brain_runbook {
    ag_str_t *steps; /* views into the text, without the fences */
    size_t n;
};

/* Steps in order. Never fails: a fence that is not closed ends with the text.
 */
void brain_runbook_parse(ag_str_t text, struct brain_runbook *out);
void brain_runbook_release(struct brain_runbook *book);

#endif
