// SPDX-License-Identifier: Apache-2.0 OR MIT
// Preloaded: the time of day is SKEW seconds from the real one.
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *now) {
    static long skew;
    static int known;
    if (!known) {
        const char *text = getenv("SKEW");
        skew = text ? atol(text) : 0;
        known = 1;
    }
    int result = syscall(SYS_clock_gettime, clock, now);
    if (result == 0 && clock == CLOCK_REALTIME) now->tv_sec += skew;
    return result;
}
