/* Reading and atomically replacing small files; keeper and vault_svc. */
#include "vault_svc/vault_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

int
vault_file_read(const char *path, struct ag_buf *out, struct ag_err *err)
{
    AG_AUTO(ag_closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);

    if (fd < 0)
        return ag_err_sys(err, "open %s", path);
    for (;;) {
        char chunk[4096];
        ssize_t n = read(fd, chunk, sizeof(chunk));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return ag_err_sys(err, "read %s", path);
        if (n == 0)
            return 0;
        int rc = ag_buf_append(out, ag_str_n(chunk, (size_t)n), err);
        explicit_bzero(chunk, sizeof(chunk));
        if (rc < 0)
            return ag_err_wrap(err, "%s", path);
    }
}

static int
write_all(int fd, ag_str_t text, const char *path, struct ag_err *err)
{
    while (text.n > 0) {
        ssize_t n = write(fd, text.p, text.n);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return ag_err_sys(err, "write %s", path);
        text = ag_str_n(text.p + n, text.n - (size_t)n);
    }
    if (fsync(fd) < 0)
        return ag_err_sys(err, "sync %s", path);
    return 0;
}

int
vault_file_write(const char *path, ag_str_t text, mode_t mode, bool exclusive,
                 struct ag_err *err)
{
    char tmp[4096];
    int n = snprintf(tmp, sizeof(tmp), "%s.%d.new", path, (int)getpid());

    if (n < 0 || (size_t)n >= sizeof(tmp))
        return ag_err_set(err, AG_ERR_INVALID, "path %s is too long", path);
    AG_AUTO(ag_closep)
    int fd =
        open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return ag_err_sys(err, "create %s", tmp);
    if (fchmod(fd, mode) < 0) {
        unlink(tmp);
        return ag_err_sys(err, "chmod %s", tmp);
    }
    if (write_all(fd, text, tmp, err) < 0) {
        unlink(tmp);
        return -1;
    }
    int rc = exclusive ? link(tmp, path) : rename(tmp, path);
    int why = errno;
    if (rc < 0 || exclusive)
        unlink(tmp);
    errno = why;
    if (rc < 0 && errno == EEXIST)
        return ag_err_set(err, AG_ERR_EXISTS, "%s exists already", path);
    if (rc < 0)
        return ag_err_sys(err, "put %s in place", path);
    return 0;
}
