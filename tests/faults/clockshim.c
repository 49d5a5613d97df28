/* A wall clock that is wrong by as much as a file says: LD_PRELOAD this, CLOCKSHIM_FILE names the file, which holds a signed 64-bit number of
 * nanoseconds in the machine's byte order and may be written at any time. Every other clock is left alone, sleeping is too. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile const int64_t *offset;

__attribute__((constructor)) static void begin(void) {
    const char *name = getenv("CLOCKSHIM_FILE");
    int file = name ? open(name, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *found = mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, file, 0);
    if (found != MAP_FAILED) offset = found;
    close(file);
}

static int shifted(clockid_t clock, struct timespec *told) {
    int failed = (int)syscall(SYS_clock_gettime, clock, told);
    if (!failed && offset && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        int64_t nanos = (int64_t)told->tv_sec * 1000000000 + told->tv_nsec + *offset;
        told->tv_sec = nanos / 1000000000;
        told->tv_nsec = nanos % 1000000000;
    }
    return failed;
}

int clock_gettime(clockid_t clock, struct timespec *told) { return shifted(clock, told); }

int gettimeofday(struct timeval *restrict told, void *restrict zone) {
    struct timespec now;
    (void)zone;
    if (shifted(CLOCK_REALTIME, &now)) return -1;
    told->tv_sec = now.tv_sec;
    told->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *told) {
    struct timespec now;
    shifted(CLOCK_REALTIME, &now);
    if (told) *told = now.tv_sec;
    return now.tv_sec;
}
