/* Records what a process does to the files below POWER_ROOT, for tests of power cuts: preload it.

   Each call that changes a file or a folder is done, and then told in POWER_LOG in the order in which they happened, under one
   lock that several processes share. tests/storage/power.py builds from it what a disk may hold that forgot what was not synced.

   A record: "PWRC", kind (1 byte), three unsigned 64-bit numbers, lengths of a path and of data (32 bits each), path, data.
       'w' inode offset 0           data written            't' inode size 0      truncated
       'f' inode 0 0                file synced             'd' inode 0 0 path    folder synced
       'c' inode 0 0 path           made                    'u' inode 0 0 path    unlinked
       'r' inode 0 0 path\0path     renamed                 'm' 0 0 0 path        folder made
*/
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>
#include <pthread.h>

static const char *root;
static size_t root_length;
static int log_fd = -1;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static void *next(const char *name) { return dlsym(RTLD_NEXT, name); }

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("POWER_LOG");
    root = getenv("POWER_ROOT");
    if (!path || !root) return;
    root_length = strlen(root);
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_APPEND | O_CREAT, 0600);
    log_fd = (int)syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 700);
    syscall(SYS_close, fd);
}

static int is_inside(const char *path) { return log_fd >= 0 && strncmp(path, root, root_length) == 0 && (path[root_length] == '/' || !path[root_length]); }

/* The absolute path of one given beside a folder; 0 when it is not below the root. */
static int place(int folder, const char *path, char *out) {
    if (log_fd < 0 || !path) return 0;
    if (path[0] == '/') snprintf(out, PATH_MAX, "%s", path);
    else {
        char link[64], base[PATH_MAX];
        if (folder == AT_FDCWD) { if (!getcwd(base, sizeof base)) return 0; }
        else {
            snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
            ssize_t length = readlink(link, base, sizeof base - 1);
            if (length < 0) return 0;
            base[length] = 0;
        }
        if (snprintf(out, PATH_MAX, "%s/%s", base, path) >= PATH_MAX) return 0;
    }
    return is_inside(out);
}

static int is_inside_fd(int fd) {
    char link[64], path[PATH_MAX];
    if (log_fd < 0 || fd == log_fd) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return is_inside(path);
}

static uint64_t inode_of(int fd) { struct stat s; return fstat(fd, &s) ? 0 : (uint64_t)s.st_ino; }

static void emit(char kind, uint64_t a, uint64_t b, const char *path, size_t path_length, const struct iovec *data, int count, size_t size) {
    char head[4 + 1 + 24 + 8];
    uint64_t c = 0;
    uint32_t lengths[2] = {(uint32_t)path_length, (uint32_t)size};
    memcpy(head, "PWRC", 4);
    head[4] = kind;
    memcpy(head + 5, &a, 8); memcpy(head + 13, &b, 8); memcpy(head + 21, &c, 8); memcpy(head + 29, lengths, 8);
    struct iovec parts[3 + 64];
    int used = 0;
    parts[used++] = (struct iovec){head, sizeof head};
    if (path_length) parts[used++] = (struct iovec){(void *)path, path_length};
    size_t left = size;
    for (int i = 0; i < count && left && used < 66; i++) {
        size_t part = data[i].iov_len < left ? data[i].iov_len : left;
        parts[used++] = (struct iovec){data[i].iov_base, part};
        left -= part;
    }
    size_t total = 0, done = 0;
    for (int i = 0; i < used; i++) total += parts[i].iov_len;
    int i = 0;
    while (done < total) {
        long wrote = syscall(SYS_writev, log_fd, parts + i, used - i);
        if (wrote < 0) { if (errno == EINTR) continue; abort(); }
        done += (size_t)wrote;
        while (i < used && (size_t)wrote >= parts[i].iov_len) wrote -= (long)parts[i++].iov_len;
        if (i < used && wrote) { parts[i].iov_base = (char *)parts[i].iov_base + wrote; parts[i].iov_len -= (size_t)wrote; }
    }
}

static void lock(void) { pthread_mutex_lock(&mutex); flock(log_fd, LOCK_EX); }
static void unlock(void) { int kept = errno; flock(log_fd, LOCK_UN); pthread_mutex_unlock(&mutex); errno = kept; }

/* A call, and its record behind it, as one step to everybody else. */
#define RECORDED(inside, call, record) do { \
    if (!(inside)) return call; \
    lock(); \
    __typeof__(call) result = call; \
    if (result >= 0) { record; } \
    unlock(); \
    return result; } while (0)

static void wrote(int fd, uint64_t at, const struct iovec *data, int count, long size) {
    if (size > 0) emit('w', inode_of(fd), at, "", 0, data, count, (size_t)size);
}

ssize_t write(int fd, const void *data, size_t size) {
    ssize_t (*real)(int, const void *, size_t) = next("write");
    struct iovec one = {(void *)data, size};
    off_t at = -1;
    if (log_fd >= 0) { at = lseek(fd, 0, SEEK_CUR); if (at >= 0 && (fcntl(fd, F_GETFL) & O_APPEND)) { struct stat s; at = fstat(fd, &s) ? at : s.st_size; } }
    RECORDED(at >= 0 && is_inside_fd(fd), real(fd, data, size), wrote(fd, (uint64_t)at, &one, 1, result));
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    ssize_t (*real)(int, const void *, size_t, off_t) = next("pwrite");
    struct iovec one = {(void *)data, size};
    RECORDED(is_inside_fd(fd), real(fd, data, size, at), wrote(fd, (uint64_t)at, &one, 1, result));
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) { return pwrite(fd, data, size, at); }

ssize_t writev(int fd, const struct iovec *data, int count) {
    ssize_t (*real)(int, const struct iovec *, int) = next("writev");
    off_t at = log_fd >= 0 ? lseek(fd, 0, SEEK_CUR) : -1;
    RECORDED(at >= 0 && is_inside_fd(fd), real(fd, data, count), wrote(fd, (uint64_t)at, data, count, result));
}

int ftruncate(int fd, off_t size) {
    int (*real)(int, off_t) = next("ftruncate");
    RECORDED(is_inside_fd(fd), real(fd, size), emit('t', inode_of(fd), (uint64_t)size, "", 0, 0, 0, 0));
}
int ftruncate64(int fd, off64_t size) { return ftruncate(fd, size); }

static int synced(int fd, int (*real)(int)) {
    struct stat s;
    int is_folder = log_fd >= 0 && !fstat(fd, &s) && S_ISDIR(s.st_mode);
    /* Nobody writes while this syncs, so what is recorded before it is what it kept. */
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = log_fd >= 0 && is_folder ? readlink(link, path, sizeof path - 1) : 0;
    RECORDED(is_inside_fd(fd), real(fd), emit(is_folder ? 'd' : 'f', inode_of(fd), 0, path, length > 0 ? (size_t)length : 0, 0, 0, 0));
}
int fsync(int fd) { return synced(fd, next("fsync")); }
int fdatasync(int fd) { return synced(fd, next("fdatasync")); }

static int opened(int folder, const char *path, int flags, mode_t mode) {
    char full[PATH_MAX];
    int inside = (flags & (O_CREAT | O_TRUNC)) && place(folder, path, full);
    int existed = 1;
    if (inside) { struct stat s; existed = !stat(full, &s); }
    if (!inside) return (int)syscall(SYS_openat, folder, path, flags, mode);
    lock();
    int fd = (int)syscall(SYS_openat, folder, path, flags, mode);
    if (fd >= 0) {
        if (!existed) emit('c', inode_of(fd), 0, full, strlen(full), 0, 0, 0);
        else if (flags & O_TRUNC) emit('t', inode_of(fd), 0, "", 0, 0, 0, 0);
    }
    unlock();
    return fd;
}
#define OPEN(name, folder_declaration, folder) \
int name(folder_declaration const char *path, int flags, ...) { \
    mode_t mode = 0; \
    if (flags & (O_CREAT | __O_TMPFILE)) { va_list rest; va_start(rest, flags); mode = va_arg(rest, mode_t); va_end(rest); } \
    return opened(folder, path, flags, mode); }
#define COMMA ,
OPEN(open, , AT_FDCWD)
OPEN(open64, , AT_FDCWD)
OPEN(openat, int at COMMA, at)
OPEN(openat64, int at COMMA, at)

static uint64_t inode_at(int folder, const char *path) { struct stat s; return fstatat(folder, path, &s, AT_SYMLINK_NOFOLLOW) ? 0 : (uint64_t)s.st_ino; }

int unlinkat(int folder, const char *path, int flags) {
    int (*real)(int, const char *, int) = next("unlinkat");
    char full[PATH_MAX];
    int inside = place(folder, path, full);
    uint64_t inode = inside ? inode_at(folder, path) : 0;
    RECORDED(inside, real(folder, path, flags), emit('u', inode, 0, full, strlen(full), 0, 0, 0));
}
int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }

int renameat(int from_folder, const char *from, int to_folder, const char *to) {
    int (*real)(int, const char *, int, const char *) = next("renameat");
    char both[2 * PATH_MAX], target[PATH_MAX];
    int inside = place(from_folder, from, both) | place(to_folder, to, target);
    uint64_t inode = inside ? inode_at(from_folder, from) : 0;
    size_t length = inside ? strlen(both) : 0;
    if (inside) memcpy(both + length + 1, target, strlen(target) + 1);
    RECORDED(inside, real(from_folder, from, to_folder, to), emit('r', inode, 0, both, length + 1 + strlen(target), 0, 0, 0));
}
int rename(const char *from, const char *to) { return renameat(AT_FDCWD, from, AT_FDCWD, to); }

int linkat(int from_folder, const char *from, int to_folder, const char *to, int flags) {
    int (*real)(int, const char *, int, const char *, int) = next("linkat");
    char full[PATH_MAX];
    int inside = place(to_folder, to, full);
    RECORDED(inside, real(from_folder, from, to_folder, to, flags), emit('c', inode_at(to_folder, to), 0, full, strlen(full), 0, 0, 0));
}
int link(const char *from, const char *to) { return linkat(AT_FDCWD, from, AT_FDCWD, to, 0); }

int mkdirat(int folder, const char *path, mode_t mode) {
    int (*real)(int, const char *, mode_t) = next("mkdirat");
    char full[PATH_MAX];
    int inside = place(folder, path, full);
    RECORDED(inside, real(folder, path, mode), emit('m', 0, 0, full, strlen(full), 0, 0, 0));
}
int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }
