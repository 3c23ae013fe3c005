/*
 * Details of errors. Called by ag_rpc_fail; pure.
 */
#include "lib/rpc_details.h"

#include <stdio.h>

#include "google/rpc/status.pb-c.h"
#include "lib/str.h"

#define TYPE "type.googleapis.com/google.rpc."
#define TEXT_MAX sizeof(((struct ag_err *)NULL)->msg)

struct detail {
    Google__Rpc__Any any;
    uint8_t packed[2 * TEXT_MAX];
};

static void
detail_fill(struct detail *d, const char *type, const ProtobufCMessage *m)
{
    ag_assert(protobuf_c_message_get_packed_size(m) <= sizeof(d->packed));
    google__rpc__any__init(&d->any);
    d->any.type_url = (char *)(uintptr_t)type;
    d->any.value.len = protobuf_c_message_pack(m, d->packed);
    d->any.value.data = d->packed;
}

/* "not_found" as "NOT_FOUND". */
static void
fill_info(struct detail *d, const struct ag_err *err)
{
    Google__Rpc__ErrorInfo info = GOOGLE__RPC__ERROR_INFO__INIT;
    char reason[32];

    (void)snprintf(reason, sizeof(reason), "%s", ag_err_kind_name(err->kind));
    for (char *p = reason; *p != '\0'; p++)
        if (*p >= 'a' && *p <= 'z')
            *p = (char)(*p - 'a' + 'A');
    info.reason = reason;
    info.domain = (char *)(uintptr_t) "brainbox";
    detail_fill(d, TYPE "ErrorInfo", &info.base);
}

/* How many bytes of the message name a field; ": " follows. 0: none do. */
static size_t
field_length(const struct ag_err *err)
{
    static const char field[] = "abcdefghijklmnopqrstuvwxyz"
                                "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-[]";
    size_t n = strspn(err->msg, field);

    return err->kind == AG_ERR_INVALID && strncmp(err->msg + n, ": ", 2) == 0
               ? n
               : 0;
}

static void
fill_violation(struct detail *d, const struct ag_err *err, size_t n)
{
    Google__Rpc__FieldViolation violation = GOOGLE__RPC__FIELD_VIOLATION__INIT,
                                *list = &violation;
    Google__Rpc__BadRequest bad = GOOGLE__RPC__BAD_REQUEST__INIT;
    char text[TEXT_MAX];

    memcpy(text, err->msg, sizeof(text));
    text[n] = '\0';
    violation.field = text;
    violation.description = text + n + 2;
    bad.n_field_violations = 1;
    bad.field_violations = &list;
    detail_fill(d, TYPE "BadRequest", &bad.base);
}

void
ag_rpc_details(int code, const struct ag_err *err, struct ag_buf *out)
{
    Google__Rpc__Status status = GOOGLE__RPC__STATUS__INIT;
    uint8_t packed[8 * TEXT_MAX];
    struct detail of[2];
    Google__Rpc__Any *list[] = {&of[0].any, &of[1].any};
    size_t field = field_length(err);
    char text[TEXT_MAX];

    memcpy(text, err->msg, sizeof(text));
    status.code = code;
    status.message = text;
    status.details = list;
    fill_info(&of[status.n_details++], err);
    if (field > 0)
        fill_violation(&of[status.n_details++], err, field);
    ag_assert(google__rpc__status__get_packed_size(&status) <= sizeof(packed));
    ag_buf_add(out,
               ag_str_n(packed, google__rpc__status__pack(&status, packed)));
}
