/* Records what a process writes below one folder, in the order in which it happens: see recording.py for the format.
 *
 * Loaded with LD_PRELOAD. One lock is held around each call and its record, so the record's order is the order of the calls. A sync is
 * recorded when it has returned: only then may anybody rely on it. Writes by memory map are not seen; SQLite maps the index of its log
 * alone (-shm), which no crash is to keep.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static int log_fd = -1;
static const char *folder;
static size_t folder_length;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

struct head {
    uint32_t op;
    uint32_t path_length;
    uint64_t offset;
    uint64_t data_length;
};

#define REAL(name, type) static type real_##name; if (!real_##name) real_##name = (type)dlsym(RTLD_NEXT, #name)

typedef ssize_t (*write_fn)(int, const void *, size_t);

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("POWER_LOG");
    folder = getenv("POWER_FOLDER");
    if (!path || !folder) return;
    folder_length = strlen(folder);
    log_fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static int is_ours(const char *path) {
    return log_fd >= 0 && strncmp(path, folder, folder_length) == 0;
}

static int path_of(int fd, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return fd != log_fd && is_ours(path);
}

static void put(const void *data, size_t length) {
    REAL(write, write_fn);
    const char *rest = data;
    while (length > 0) {
        ssize_t written = real_write(log_fd, rest, length);
        if (written < 0) {
            if (errno == EINTR) continue;
            abort(); /* a record with a hole would say nothing */
        }
        rest += written;
        length -= written;
    }
}

static void record(char op, const char *path, uint64_t offset, const void *data, uint64_t length) {
    int before = errno;
    struct head head = {(uint32_t)op, (uint32_t)strlen(path), offset, length};
    put(&head, sizeof head);
    put(path, head.path_length);
    if (length) put(data, length);
    errno = before;
}

#define RECORDED(call, op, offset, data, length_of_it) \
    char path[PATH_MAX]; \
    if (log_fd < 0 || !path_of(fd, path)) return call; \
    pthread_mutex_lock(&lock); \
    __typeof__(call) result = call; \
    if (result >= 0) record(op, path, offset, data, length_of_it); \
    pthread_mutex_unlock(&lock); \
    return result

ssize_t pwrite(int fd, const void *data, size_t length, off_t offset) {
    typedef ssize_t (*fn)(int, const void *, size_t, off_t);
    REAL(pwrite, fn);
    RECORDED(real_pwrite(fd, data, length, offset), 'w', offset, data, result);
}

ssize_t pwrite64(int fd, const void *data, size_t length, off64_t offset) {
    typedef ssize_t (*fn)(int, const void *, size_t, off64_t);
    REAL(pwrite64, fn);
    RECORDED(real_pwrite64(fd, data, length, offset), 'w', offset, data, result);
}

/* The one file that is written without an offset is the list of promises. */
ssize_t write(int fd, const void *data, size_t length) {
    REAL(write, write_fn);
    RECORDED(real_write(fd, data, length), 'a', 0, data, result);
}

int ftruncate(int fd, off_t length) {
    typedef int (*fn)(int, off_t);
    REAL(ftruncate, fn);
    RECORDED(real_ftruncate(fd, length), 't', length, NULL, 0);
}

int ftruncate64(int fd, off64_t length) {
    typedef int (*fn)(int, off64_t);
    REAL(ftruncate64, fn);
    RECORDED(real_ftruncate64(fd, length), 't', length, NULL, 0);
}

int fsync(int fd) {
    typedef int (*fn)(int);
    REAL(fsync, fn);
    RECORDED(real_fsync(fd), 's', 0, NULL, 0);
}

int fdatasync(int fd) {
    typedef int (*fn)(int);
    REAL(fdatasync, fn);
    RECORDED(real_fdatasync(fd), 's', 0, NULL, 0);
}

int unlink(const char *path) {
    typedef int (*fn)(const char *);
    REAL(unlink, fn);
    if (!is_ours(path)) return real_unlink(path);
    pthread_mutex_lock(&lock);
    int result = real_unlink(path);
    if (result == 0) record('u', path, 0, NULL, 0);
    pthread_mutex_unlock(&lock);
    return result;
}

int rename(const char *from, const char *to) {
    typedef int (*fn)(const char *, const char *);
    REAL(rename, fn);
    if (!is_ours(from)) return real_rename(from, to);
    pthread_mutex_lock(&lock);
    int result = real_rename(from, to);
    if (result == 0) record('r', from, 0, to, strlen(to));
    pthread_mutex_unlock(&lock);
    return result;
}
