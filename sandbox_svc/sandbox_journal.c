/*
 * The file is a head and a fixed number of slots, mapped as long as the service
 * runs: adding a note is a copy and one store. The store that makes a note
 * count comes last, so what a killed writer left half is no note.
 */
#include "sandbox_svc/sandbox_journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/err.h"
#include "lib/str.h"

#define MAGIC 0x6c6e6a31u
/* More commands than can run at a time: option max_sandboxes. */
#define SLOTS 4096
#define BOOT_ID_TEXT 37

struct slot {
    _Atomic uint32_t is_used;
    struct sandbox_note note;
};

struct head {
    uint32_t magic, size;
    /* The machine's, of random(4): another one means that it went down. */
    char boot_id[BOOT_ID_TEXT];
    uint8_t is_clean, is_unsure;
};

struct file {
    struct head head;
    struct slot slots[SLOTS];
};

struct sandbox_journal {
    int fd, next;
    struct file *file;
};

static int
read_boot_id(char id[BOOT_ID_TEXT], struct ag_err *err)
{
    static const char path[] = "/proc/sys/kernel/random/boot_id";
    AG_AUTO(ag_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0 || read(fd, id, BOOT_ID_TEXT - 1) != BOOT_ID_TEXT - 1)
        return ag_err_sys(err, "read %s", path);
    id[BOOT_ID_TEXT - 1] = 0;
    return 0;
}

static bool
is_text(const char *s, size_t size)
{
    return memchr(s, 0, size) != NULL;
}

static bool
is_sound(const struct file *f)
{
    if (f->head.magic != MAGIC || f->head.size != sizeof(*f)
        || !is_text(f->head.boot_id, sizeof(f->head.boot_id)))
        return false;
    for (int i = 0; i < SLOTS; i++) {
        const struct sandbox_note *n = &f->slots[i].note;
        if (f->slots[i].is_used != 0
            && (!is_text(n->tenant, sizeof(n->tenant))
                || !is_text(n->call_id, sizeof(n->call_id))
                || !is_text(n->session_id, sizeof(n->session_id))
                || !is_text(n->sandbox_id, sizeof(n->sandbox_id))
                || !is_text(n->environment_id, sizeof(n->environment_id))))
            return false;
    }
    return true;
}

/* Say durably that from now on commands may run. */
static int
begin(struct file *f, bool is_new, struct ag_err *err)
{
    char boot_id[BOOT_ID_TEXT];

    if (read_boot_id(boot_id, err) < 0)
        return -1;
    if (!is_new && !is_sound(f)) {
        memset(f, 0, sizeof(*f));
        f->head.is_unsure = 1;
    } else if (!is_new && strcmp(f->head.boot_id, boot_id) != 0) {
        f->head.is_unsure = !f->head.is_clean;
    }
    f->head.magic = MAGIC;
    f->head.size = sizeof(*f);
    f->head.is_clean = 0;
    memcpy(f->head.boot_id, boot_id, sizeof(boot_id));
    return msync(f, sizeof(f->head), MS_SYNC) < 0
               ? ag_err_sys(err, "write the journal")
               : 0;
}

static int
map_file(struct sandbox_journal *j, bool *is_new, struct ag_err *err)
{
    struct stat st;

    if (flock(j->fd, LOCK_EX | LOCK_NB) < 0)
        return ag_err_set(err, AG_ERR_CONFLICT,
                          "the journal is another process's");
    if (fstat(j->fd, &st) < 0)
        return ag_err_sys(err, "journal");
    *is_new = st.st_size == 0;
    /* All of its room now, so that a full disk shows here and not in a note. */
    int rc = posix_fallocate(j->fd, 0, sizeof(struct file));
    if (rc != 0) {
        errno = rc;
        return ag_err_sys(err, "make room for the journal");
    }
    void *p = mmap(NULL, sizeof(struct file), PROT_READ | PROT_WRITE,
                   MAP_SHARED, j->fd, 0);
    if (p == MAP_FAILED)
        return ag_err_sys(err, "map the journal");
    j->file = p;
    return 0;
}

static void
journal_freep(struct sandbox_journal **j)
{
    if (*j == NULL)
        return;
    if ((*j)->file != NULL)
        munmap((*j)->file, sizeof(struct file));
    ag_closep(&(*j)->fd);
    ag_freep(j);
}

struct sandbox_journal *
sandbox_journal_open(int dir, const char *name, struct ag_err *err)
{
    AG_AUTO(journal_freep)
    struct sandbox_journal *j = ag_xcalloc(1, sizeof(*j));
    bool is_new = false;

    j->fd = openat(dir, name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (j->fd < 0) {
        ag_err_sys(err, "open the journal %s", name);
        return NULL;
    }
    if (map_file(j, &is_new, err) < 0 || begin(j->file, is_new, err) < 0)
        return NULL;
    return ag_take(&j);
}

void
sandbox_journal_close(struct sandbox_journal *j, bool is_clean)
{
    int first = 0;

    if (j == NULL)
        return;
    if (is_clean && sandbox_journal_next(j, &first) == NULL) {
        j->file->head.is_clean = 1;
        j->file->head.is_unsure = 0;
        (void)msync(j->file, sizeof(j->file->head), MS_SYNC);
    }
    journal_freep(&j);
}

bool
sandbox_journal_is_unsure(const struct sandbox_journal *j)
{
    return j->file->head.is_unsure != 0;
}

int
sandbox_journal_add(struct sandbox_journal *j, const struct sandbox_note *note)
{
    for (int tries = 0; tries < SLOTS; tries++) {
        int number = j->next;
        struct slot *s = &j->file->slots[number];
        j->next = (number + 1) % SLOTS;
        if (s->is_used != 0)
            continue;
        s->note = *note;
        atomic_store_explicit(&s->is_used, 1, memory_order_release);
        return number;
    }
    return -1;
}

void
sandbox_journal_remove(struct sandbox_journal *j, int number)
{
    atomic_store_explicit(&j->file->slots[number].is_used, 0,
                          memory_order_release);
}

const struct sandbox_note *
sandbox_journal_next(const struct sandbox_journal *j, int *number)
{
    while (*number < SLOTS) {
        struct slot *s = &j->file->slots[(*number)++];
        if (s->is_used != 0)
            return &s->note;
    }
    return NULL;
}
