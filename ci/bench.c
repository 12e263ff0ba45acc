// SPDX-License-Identifier: Apache-2.0 OR MIT
// Small measurements for ci/bench. Prints one JSON object; times are nanoseconds.
//
//   bench echo ADDRESS PORT              serves: every byte comes back; one connection at a time
//   bench rtt ADDRESS PORT COUNT         one connection: one byte there and back, COUNT times
//   bench connect ADDRESS PORT COUNT     COUNT times: connect, one byte there and back, close
//   bench start COUNT COMMAND…           COUNT times: run the command and wait for its end

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static void die(const char *what) {
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int compare(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void report(uint64_t *samples, size_t count, uint64_t total) {
    qsort(samples, count, sizeof *samples, compare);
    printf("{\"count\": %zu, \"p50\": %llu, \"p99\": %llu, \"max\": %llu, \"per_second\": %.1f}\n", count,
           (unsigned long long)samples[count / 2], (unsigned long long)samples[count * 99 / 100],
           (unsigned long long)samples[count - 1], count * 1e9 / total);
}

static socklen_t parse(const char *address, const char *port, struct sockaddr_storage *out) {
    memset(out, 0, sizeof *out);
    struct sockaddr_in *v4 = (struct sockaddr_in *)out;
    if (inet_pton(AF_INET, address, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons(atoi(port));
        return sizeof *v4;
    }
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;
    if (inet_pton(AF_INET6, address, &v6->sin6_addr) != 1) {
        fprintf(stderr, "%s: not an address\n", address);
        exit(2);
    }
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(atoi(port));
    return sizeof *v6;
}

static void no_delay(int s) {
    int one = 1;
    setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

static int dial(const struct sockaddr_storage *to, socklen_t size) {
    int s = socket(to->ss_family, SOCK_STREAM, 0);
    if (s < 0) die("socket");
    if (connect(s, (const struct sockaddr *)to, size) != 0) die("connect");
    no_delay(s);
    return s;
}

static void ping_pong(int s) {
    char byte = 'x';
    if (write(s, &byte, 1) != 1) die("write");
    if (read(s, &byte, 1) != 1) die("read");
}

static void echo(const char *address, const char *port) {
    struct sockaddr_storage at;
    socklen_t size = parse(address, port, &at);
    int one = 1, l = socket(at.ss_family, SOCK_STREAM, 0);
    setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(l, (struct sockaddr *)&at, size) != 0) die("bind");
    if (listen(l, 1024) != 0) die("listen");
    for (;;) {
        char data[4096];
        ssize_t n;
        int s = accept(l, NULL, NULL);
        if (s < 0) {
            if (errno == EINTR || errno == ECONNABORTED) continue;
            die("accept");
        }
        no_delay(s);
        while ((n = read(s, data, sizeof data)) > 0)
            if (write(s, data, (size_t)n) != n) break;
        close(s);
    }
}

int main(int argc, char **argv) {
    if (argc < 4) return 2;
    if (strcmp(argv[1], "echo") == 0) echo(argv[2], argv[3]);
    int start = strcmp(argv[1], "start") == 0;
    size_t count = strtoul(start ? argv[2] : argv[4], NULL, 10), i;
    uint64_t *samples = calloc(count, sizeof *samples), begin;
    if (count == 0 || samples == NULL) return 2;
    if (start) {
        begin = now();
        for (i = 0; i < count; i++) {
            pid_t pid;
            int status;
            uint64_t t = now();
            if ((errno = posix_spawnp(&pid, argv[3], NULL, NULL, argv + 3, environ)) != 0) die(argv[3]);
            if (waitpid(pid, &status, 0) != pid || status != 0) die("the command failed");
            samples[i] = now() - t;
        }
        report(samples, count, now() - begin);
        return 0;
    }
    struct sockaddr_storage to;
    socklen_t size = parse(argv[2], argv[3], &to);
    if (strcmp(argv[1], "rtt") == 0) {
        int s = dial(&to, size);
        for (i = 0; i < count / 10; i++) ping_pong(s);
        begin = now();
        for (i = 0; i < count; i++) {
            uint64_t t = now();
            ping_pong(s);
            samples[i] = now() - t;
        }
        report(samples, count, now() - begin);
        return 0;
    }
    if (strcmp(argv[1], "connect") == 0) {
        begin = now();
        for (i = 0; i < count; i++) {
            uint64_t t = now();
            int s = dial(&to, size);
            ping_pong(s);
            samples[i] = now() - t;
            close(s);
        }
        report(samples, count, now() - begin);
        return 0;
    }
    return 2;
}
