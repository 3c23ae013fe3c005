/*
 * Secrets in memory of their own: locked where the limit allows, left out of
 * core files, wiped when released. Also the kernel's random bytes and SHA-256.
 */
#include "lib/secret.h"

#include <errno.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

/*
 * Pages of released secrets, wiped, for the next one: to map, lock and unmap
 * costs more than most uses of a secret.
 */
#define SPARE_MAX 64

static struct {
    pthread_mutex_t lock; /* guards: all */
    void *pages[SPARE_MAX];
    int n;
} spare = {.lock = PTHREAD_MUTEX_INITIALIZER};

static size_t
page_size(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

static size_t
pages(size_t n)
{
    return (n + page_size() - 1) / page_size() * page_size();
}

static void *
spare_take(size_t size)
{
    void *p = NULL;

    if (size != page_size())
        return NULL;
    pthread_mutex_lock(&spare.lock);
    if (spare.n > 0)
        p = spare.pages[--spare.n];
    pthread_mutex_unlock(&spare.lock);
    return p;
}

static bool
spare_put(void *p, size_t size)
{
    bool is_kept = false;

    if (size != page_size())
        return false;
    pthread_mutex_lock(&spare.lock);
    if (spare.n < SPARE_MAX) {
        spare.pages[spare.n++] = p;
        is_kept = true;
    }
    pthread_mutex_unlock(&spare.lock);
    return is_kept;
}

ag_secret_t
ag_secret_new(size_t n)
{
    void *p;

    if (n == 0)
        return (ag_secret_t)AG_SECRET_INIT;
    p = spare_take(pages(n));
    if (p != NULL)
        return (ag_secret_t){p, n};
    p = mmap(NULL, pages(n), PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        abort();
    /* RLIMIT_MEMLOCK may be small: better an unlocked secret than none. */
    (void)mlock(p, pages(n));
    (void)madvise(p, pages(n), MADV_DONTDUMP);
    return (ag_secret_t){p, n};
}

ag_secret_t
ag_secret_copy(const void *p, size_t n)
{
    ag_secret_t s = ag_secret_new(n);

    if (n > 0)
        memcpy(s.p, p, n);
    return s;
}

void
ag_secret_release(ag_secret_t *s)
{
    if (s->p != NULL) {
        ag_wipe(s->p, s->n);
        if (!spare_put(s->p, pages(s->n)))
            (void)munmap(s->p, pages(s->n));
    }
    *s = (ag_secret_t)AG_SECRET_INIT;
}

void
ag_wipe(void *p, size_t n)
{
    if (n > 0)
        explicit_bzero(p, n);
}

void
ag_buf_wipe(struct ag_buf *b)
{
    ag_wipe(b->p, b->cap);
    ag_buf_release(b);
}

void
ag_random(void *p, size_t n)
{
    unsigned char *at = p;

    while (n > 0) {
        ssize_t got = getrandom(at, n, 0);

        if (got < 0 && errno != EINTR)
            abort();
        if (got > 0) {
            at += got;
            n -= (size_t)got;
        }
    }
}

/* Fetched once: by the name of an algorithm OpenSSL looks for it each time. */
static EVP_MD *sha256;

static void
fetch_sha256(void)
{
    sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
    ag_assert(sha256 != NULL);
}

void
ag_sha256(ag_str_t s, unsigned char out[32])
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    unsigned int n = 32;

    (void)pthread_once(&once, fetch_sha256);
    ag_assert(EVP_Digest(s.p == NULL ? "" : s.p, s.n, out, &n, sha256, NULL)
              == 1);
}

void
ag_sha256_hex(ag_str_t s, char out[65])
{
    static const char digits[] = "0123456789abcdef";
    unsigned char hash[32];

    ag_sha256(s, hash);
    for (int i = 0; i < 32; i++) {
        out[2 * i] = digits[hash[i] >> 4];
        out[2 * i + 1] = digits[hash[i] & 15];
    }
    out[64] = '\0';
}
