/*
 * Content blocks of what users say: text, images, documents, in the shapes of
 * the published contract. What a model endpoint wants of them is its wire's
 * (brain_wire_*.c). Pure.
 */
#ifndef BRAIN_CONTENT_H
#define BRAIN_CONTENT_H

#include "lib/buf.h"
#include "lib/json.h"

enum brain_content_kind {
    BRAIN_CONTENT_TEXT,
    BRAIN_CONTENT_IMAGE,
    BRAIN_CONTENT_DOCUMENT,
};

/*
 * An array of one block or more. Images (PNG, JPEG, GIF, WebP) come as base64
 * or as a URL that the model's endpoint reads, documents as base64 (PDF) or
 * text. Returns 0, or -1 with AG_ERR_INVALID.
 */
int brain_content_check(const json_t *content, struct ag_err *err);

/* Of a checked block. */
enum brain_content_kind brain_content_kind(const json_t *block);
/* True when all blocks are text. */
bool brain_content_is_text(const json_t *content);
/* The text of a block: its own, or that of a document, behind its title and
 * context. NULL for what has other data; a new JSON string. */
json_t *brain_content_text(const json_t *block);
/* Where an image or a document is: its URL, or its data in one ("data:", RFC
 * 2397). A new JSON string. */
json_t *brain_content_url(const json_t *block);
/* What a document is called; never NULL. */
const char *brain_content_name(const json_t *block);

/* About how many bytes of text take as many tokens as these blocks do. */
size_t brain_content_weight(const json_t *content);

#endif
