/*
 * Validation of the messages between sandbox_svc and the launcher. Pure
 * functions; used on both sides.
 */
#include "sandbox_svc/launcher_msg.h"

#include <stdbool.h>
#include <string.h>

#include "lib/err.h"
#include "lib/id.h"

struct bound {
    const char *name;
    size_t offset;
    int64_t min, max;
};

static const struct bound bounds[] = {
    {"memory_bytes", offsetof(struct launcher_limits, memory_bytes), 16LL << 20,
     1LL << 42},
    {"cpu_milli", offsetof(struct launcher_limits, cpu_milli), 10, 1000000},
    {"pids", offsetof(struct launcher_limits, pids), 4, 32768},
    {"disk_bytes", offsetof(struct launcher_limits, disk_bytes), 1LL << 20,
     1LL << 42},
    {"disk_inodes", offsetof(struct launcher_limits, disk_inodes), 64,
     1LL << 32},
    {"open_files", offsetof(struct launcher_limits, open_files), 16, 1 << 20},
};

/* Length of the string in `field`, or -1 when it has no NUL or bytes behind
 * it that are not NUL. */
static int
padded_length(const char *field, size_t size)
{
    size_t n = strnlen(field, size);

    for (size_t i = n; i < size; i++)
        if (field[i] != 0)
            return -1;
    return n == size ? -1 : (int)n;
}

static bool
is_id(const char *field, const char *prefix)
{
    int n = padded_length(field, LAUNCHER_ID_MAX);

    return n > 0 && ag_id_is(ag_str_n(field, (size_t)n), prefix);
}

/* One path component of plain characters: the launcher puts it in a path. */
static bool
is_image_name(const char *field)
{
    int n = padded_length(field, LAUNCHER_IMAGE_MAX);

    if (n <= 0)
        return false;
    for (int i = 0; i < n; i++) {
        char c = field[i];
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_'
              || c == '-'))
            return false;
    }
    return true;
}

static bool
is_zero(const void *p, size_t n)
{
    const unsigned char *b = p;

    for (size_t i = 0; i < n; i++)
        if (b[i] != 0)
            return false;
    return true;
}

static int
check_limits(const struct launcher_limits *limits, struct ag_err *err)
{
    for (size_t i = 0; i < sizeof(bounds) / sizeof(bounds[0]); i++) {
        const struct bound *b = &bounds[i];
        int64_t v;

        memcpy(&v, (const char *)limits + b->offset, sizeof(v));
        if (v < b->min || v > b->max)
            return ag_err_set(
                err, AG_ERR_INVALID, "limits.%s is %lld, must be %lld to %lld",
                b->name, (long long)v, (long long)b->min, (long long)b->max);
    }
    return 0;
}

/* Which fields a type uses; the others must be zero. */
struct shape {
    bool sandbox, session, image;
};

static int
shape_of(uint32_t type, struct shape *out)
{
    switch (type) {
    case LAUNCHER_CREATE:
        *out = (struct shape){true, false, true};
        return 0;
    case LAUNCHER_ATTACH:
        *out = (struct shape){true, true, false};
        return 0;
    case LAUNCHER_DESTROY:
        *out = (struct shape){true, false, false};
        return 0;
    case LAUNCHER_LIST:
        *out = (struct shape){false, false, false};
        return 0;
    case LAUNCHER_WIPE:
    case LAUNCHER_MEASURE:
        *out = (struct shape){false, true, false};
        return 0;
    default:
        return -1;
    }
}

static int
invalid(struct ag_err *err, const char *field)
{
    return ag_err_set(err, AG_ERR_INVALID, "%s is malformed", field);
}

int
launcher_request_parse(const void *packet, size_t n,
                       struct launcher_request *out, struct ag_err *err)
{
    struct launcher_request r;
    struct shape shape;

    if (n != sizeof(r))
        return ag_err_set(err, AG_ERR_INVALID, "packet of %zu bytes, not %zu",
                          n, sizeof(r));
    memcpy(&r, packet, sizeof(r));
    if (r.magic != LAUNCHER_MAGIC)
        return invalid(err, "magic");
    if (shape_of(r.type, &shape) < 0)
        return ag_err_set(err, AG_ERR_INVALID, "type %u is unknown", r.type);
    if (shape.sandbox ? !is_id(r.sandbox_id, "sbx")
                      : !is_zero(r.sandbox_id, sizeof(r.sandbox_id)))
        return invalid(err, "sandbox_id");
    if (shape.session ? !is_id(r.session_id, "sesn")
                      : !is_zero(r.session_id, sizeof(r.session_id)))
        return invalid(err, "session_id");
    if (shape.image ? !is_image_name(r.image)
                    : !is_zero(r.image, sizeof(r.image)))
        return invalid(err, "image");
    if (shape.image) {
        if (check_limits(&r.limits, err) < 0)
            return -1;
    } else if (!is_zero(&r.limits, sizeof(r.limits))) {
        return invalid(err, "limits");
    }
    *out = r;
    return 0;
}

int
launcher_reply_parse(const void *packet, size_t n, struct launcher_reply *out,
                     struct ag_err *err)
{
    struct launcher_reply r;

    if (n != sizeof(r))
        return ag_err_set(err, AG_ERR_CORRUPT, "launcher: packet of %zu bytes",
                          n);
    memcpy(&r, packet, sizeof(r));
    if (r.magic != LAUNCHER_MAGIC
        || (r.type != LAUNCHER_REPLY && r.type != LAUNCHER_ENTRY))
        return ag_err_set(err, AG_ERR_CORRUPT, "launcher: unknown message");
    if (r.error < 0 || r.error > AG_ERR_INTERNAL || r.bytes < 0 || r.inodes < 0
        || padded_length(r.sandbox_id, sizeof(r.sandbox_id)) < 0
        || padded_length(r.address, sizeof(r.address)) < 0
        || padded_length(r.text, sizeof(r.text)) < 0)
        return ag_err_set(err, AG_ERR_CORRUPT, "launcher: malformed message");
    *out = r;
    return 0;
}
