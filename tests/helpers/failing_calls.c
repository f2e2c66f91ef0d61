/* Lets the n-th call of the system on files in a folder fail, and none or all of those after it. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { WRITE, FLUSH, RENAME, READ };

static char folder[PATH_MAX];
static int operation = -1, number, code, lasting;
static long calls;

/* Begin to count calls of an operation below a folder; the number-th fails with an error code. */
void fail_calls(const char *path, int which, int nth, int error, int goes_on) {
    strncpy(folder, path, sizeof folder - 1);
    number = nth;
    code = error;
    lasting = goes_on;
    __atomic_store_n(&calls, 0, __ATOMIC_SEQ_CST);
    operation = which;
}

/* End it, and return the number of calls. */
long end_failures(void) {
    operation = -1;
    return calls;
}

static int fails(int which, const char *path) {
    if (which != operation || strncmp(path, folder, strlen(folder))) return 0;
    long call = __atomic_add_fetch(&calls, 1, __ATOMIC_SEQ_CST);
    if (!number || call < number || (call > number && !lasting)) return 0;
    errno = code;
    return 1;
}

static int fails_on(int which, int file) {
    char link[64], path[PATH_MAX];
    if (which != operation) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return fails(which, path);
}

#define WRAP(kind, name, which, file, arguments, ...)      \
    kind name arguments {                                  \
        static kind(*next) arguments;                      \
        if (!next) next = dlsym(RTLD_NEXT, #name);         \
        return fails_on(which, file) ? -1 : next(__VA_ARGS__); \
    }

WRAP(ssize_t, write, WRITE, f, (int f, const void *b, size_t n), f, b, n)
WRAP(ssize_t, pwrite, WRITE, f, (int f, const void *b, size_t n, off_t o), f, b, n, o)
WRAP(ssize_t, pwrite64, WRITE, f, (int f, const void *b, size_t n, off64_t o), f, b, n, o)
WRAP(int, ftruncate, WRITE, f, (int f, off_t n), f, n)
WRAP(int, ftruncate64, WRITE, f, (int f, off64_t n), f, n)
WRAP(int, fsync, FLUSH, f, (int f), f)
WRAP(int, fdatasync, FLUSH, f, (int f), f)
WRAP(ssize_t, read, READ, f, (int f, void *b, size_t n), f, b, n)
WRAP(ssize_t, pread, READ, f, (int f, void *b, size_t n, off_t o), f, b, n, o)
WRAP(ssize_t, pread64, READ, f, (int f, void *b, size_t n, off64_t o), f, b, n, o)
WRAP(ssize_t, preadv, READ, f, (int f, const struct iovec *v, int n, off_t o), f, v, n, o)
WRAP(ssize_t, preadv64, READ, f, (int f, const struct iovec *v, int n, off64_t o), f, v, n, o)

int rename(const char *from, const char *to) {
    static int (*next)(const char *, const char *);
    char path[PATH_MAX];
    if (!next) next = dlsym(RTLD_NEXT, "rename");
    if (!realpath(from, path)) path[0] = 0;
    return fails(RENAME, path) ? -1 : next(from, to);
}
