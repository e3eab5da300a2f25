/* Preloaded into a process, it shifts the clock of the day by CLOCK_SHIFT_SECONDS, and no other clock. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>

int clock_gettime(clockid_t id, struct timespec *at) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(id, at);
    const char *shift = getenv("CLOCK_SHIFT_SECONDS");
    if (result == 0 && id == CLOCK_REALTIME && shift) at->tv_sec += atol(shift);
    return result;
}
