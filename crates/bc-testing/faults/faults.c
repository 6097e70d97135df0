/* Makes chosen file operations of a program fail: a library for LD_PRELOAD, for tests alone.
 *
 *   BC_FAULT_CALL   open, read, write, fsync, rename, flock, or any (pread counts as read, pwrite as write,
 *                   fdatasync as fsync, openat as open, renameat as rename)
 *   BC_FAULT_PATH   a part of the path, or a pattern with * and ? that the whole path must fit; absolute paths
 *                   for files that are open
 *   BC_FAULT_NTH    the first call that fails, counted from 1 over the whole process (1 if not given)
 *   BC_FAULT_COUNT  how many calls fail from there on (1 if not given; 0: all)
 *   BC_FAULT_ERRNO  EIO, ESTALE, ENOSPC, EINTR, EAGAIN, ETIMEDOUT, EACCES, ENOENT, ENOLCK, ENOSYS, a number; or
 *                   SHORT: read and write move half of what was asked; EOF: read returns 0;
 *                   HANG: the call does not return (as on a network disk that is gone)
 *   BC_FAULT_LOG    a file that gets a line for each call that failed
 *
 * Only what the program calls through the C library is seen (Rust's standard library does); a mapped file
 * that a disk no longer gives is not.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/types.h>
#include <unistd.h>

enum { NO_FAULT = 0, SHORT = -1, END = -2, HANG = -3 };

static atomic_long calls;

static int named(const char *name) {
    static const struct { const char *name; int code; } codes[] = {
        {"EIO", EIO}, {"ESTALE", ESTALE}, {"ENOSPC", ENOSPC}, {"EINTR", EINTR}, {"EAGAIN", EAGAIN},
        {"ETIMEDOUT", ETIMEDOUT}, {"EACCES", EACCES}, {"ENOENT", ENOENT}, {"ENOLCK", ENOLCK},
        {"ENOSYS", ENOSYS}, {"SHORT", SHORT}, {"EOF", END},
        {"HANG", HANG},
    };
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        if (strcmp(name, codes[i].name) == 0) return codes[i].code;
    return atoi(name);
}

static long number(const char *name, long otherwise) {
    const char *text = getenv(name);
    return text && *text ? atol(text) : otherwise;
}

static int fits(const char *path) {
    const char *pattern = getenv("BC_FAULT_PATH");
    if (!pattern || !*pattern) return 0;
    if (strpbrk(pattern, "*?")) return fnmatch(pattern, path, 0) == 0;
    return strstr(path, pattern) != NULL;
}

static void note(const char *call, const char *path, long nth) {
    const char *log = getenv("BC_FAULT_LOG");
    if (!log || !*log) return;
    /* dprintf calls write inside the C library and is not seen here. */
    int (*open_)(const char *, int, ...) = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, "open");
    int fd = open_(log, O_WRONLY | O_APPEND | O_CREAT, 0666);
    if (fd < 0) return;
    dprintf(fd, "%s %ld %s\n", call, nth, path);
    close(fd);
}

/* The fault of this call: an error number, SHORT, END, or none. */
static int fault(const char *call, const char *path) {
    const char *chosen = getenv("BC_FAULT_CALL");
    const char *what = getenv("BC_FAULT_ERRNO");
    if (!chosen || !what || (strcmp(chosen, "any") != 0 && strcmp(chosen, call) != 0) || !fits(path)) return NO_FAULT;
    long nth = atomic_fetch_add(&calls, 1) + 1;
    long first = number("BC_FAULT_NTH", 1), count = number("BC_FAULT_COUNT", 1);
    if (nth < first || (count > 0 && nth >= first + count)) return NO_FAULT;
    note(call, path, nth);
    int code = named(what);
    while (code == HANG) pause();
    return code;
}

static int fault_of_file(const char *call, int fd) {
    if (!getenv("BC_FAULT_CALL")) return NO_FAULT;
    int before = errno;
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    errno = before;
    if (length <= 0) return NO_FAULT;
    path[length] = 0;
    return fault(call, path);
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static mode_t mode_of(int flags, va_list arguments) {
    return flags & (O_CREAT | O_TMPFILE) ? va_arg(arguments, mode_t) : 0;
}

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        va_list arguments; \
        va_start(arguments, flags); \
        mode_t mode = mode_of(flags, arguments); \
        va_end(arguments); \
        int what = fault("open", path); \
        if (what > 0) { errno = what; return -1; } \
        return NEXT(name)(path, flags, mode); \
    }
OPEN(open)
OPEN(open64)

#define OPEN_AT(name) \
    int name(int folder, const char *path, int flags, ...) { \
        va_list arguments; \
        va_start(arguments, flags); \
        mode_t mode = mode_of(flags, arguments); \
        va_end(arguments); \
        int what = fault("open", path); \
        if (what > 0) { errno = what; return -1; } \
        return NEXT(name)(folder, path, flags, mode); \
    }
OPEN_AT(openat)
OPEN_AT(openat64)

#define MOVE(name, call, type, ...) { \
        int what = fault_of_file(call, fd); \
        if (what > 0) { errno = what; return -1; } \
        if (what == END) return 0; \
        if (what == SHORT && length > 1) length /= 2; \
        return NEXT(name)(__VA_ARGS__); \
    }
ssize_t read(int fd, void *bytes, size_t length) MOVE(read, "read", void *, fd, bytes, length)
ssize_t write(int fd, const void *bytes, size_t length) MOVE(write, "write", const void *, fd, bytes, length)
ssize_t pread(int fd, void *bytes, size_t length, off_t at) MOVE(pread, "read", void *, fd, bytes, length, at)
ssize_t pread64(int fd, void *bytes, size_t length, off64_t at) MOVE(pread64, "read", void *, fd, bytes, length, at)
ssize_t pwrite(int fd, const void *bytes, size_t length, off_t at)
    MOVE(pwrite, "write", const void *, fd, bytes, length, at)
ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t at)
    MOVE(pwrite64, "write", const void *, fd, bytes, length, at)

int fsync(int fd) {
    int what = fault_of_file("fsync", fd);
    if (what > 0) { errno = what; return -1; }
    return NEXT(fsync)(fd);
}

int flock(int fd, int operation) {
    int what = fault_of_file("flock", fd);
    if (what > 0) { errno = what; return -1; }
    return NEXT(flock)(fd, operation);
}

int fdatasync(int fd) {
    int what = fault_of_file("fsync", fd);
    if (what > 0) { errno = what; return -1; }
    return NEXT(fdatasync)(fd);
}

int rename(const char *from, const char *to) {
    int what = fault("rename", to);
    if (what > 0) { errno = what; return -1; }
    return NEXT(rename)(from, to);
}

int renameat(int from_folder, const char *from, int to_folder, const char *to) {
    int what = fault("rename", to);
    if (what > 0) { errno = what; return -1; }
    return NEXT(renameat)(from_folder, from, to_folder, to);
}

int renameat2(int from_folder, const char *from, int to_folder, const char *to, unsigned flags) {
    int what = fault("rename", to);
    if (what > 0) { errno = what; return -1; }
    return NEXT(renameat2)(from_folder, from, to_folder, to, flags);
}
