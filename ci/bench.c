// SPDX-License-Identifier: Apache-2.0 OR MIT
// Small measurements for ci/bench. Prints one JSON object; times are nanoseconds.
//
//   bench echo ADDRESS PORT              serves: every byte comes back; one connection at a time
//   bench rtt ADDRESS PORT COUNT         one connection: one byte there and back, COUNT times
//   bench connect ADDRESS PORT COUNT     COUNT times: connect, one byte there and back, close
//   bench start COUNT COMMAND…           COUNT times: run the command and wait for its end
//   bench rtt-for ADDRESS PORT SECONDS   as rtt, for that time
//   bench http ADDRESS PORT LENGTH       serves: the least that can be called HTTP, with LENGTH bytes in each answer
//   bench load ADDRESS PORT SECONDS RATE SLOW
//       RATE requests a second, ten on a connection, beside SLOW clients whose heads never end; counts the answers

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
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

static const char REQUEST[] = "GET /networks HTTP/1.1\r\nhost: localhost\r\n\r\n";

static void http(const char *address, const char *port, int length) {
    static char answer[65536];
    int head = snprintf(answer, sizeof answer, "HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n", length);
    if (length < 0 || head + length > (int)sizeof answer) exit(2);
    memset(answer + head, ' ', (size_t)length);
    struct sockaddr_storage at;
    socklen_t size = parse(address, port, &at);
    int one = 1, l = socket(at.ss_family, SOCK_STREAM, 0), e = epoll_create1(0);
    setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(l, (struct sockaddr *)&at, size) != 0 || listen(l, 1024) != 0) die("listen");
    struct epoll_event event = {.events = EPOLLIN, .data.fd = l}, ready[64];
    epoll_ctl(e, EPOLL_CTL_ADD, l, &event);
    for (;;) {
        int n = epoll_wait(e, ready, 64, -1);
        for (int i = 0; i < n; i++) {
            int s = ready[i].data.fd;
            if (s == l) {
                event.data.fd = accept(l, NULL, NULL);
                if (event.data.fd >= 0) epoll_ctl(e, EPOLL_CTL_ADD, event.data.fd, &event);
                continue;
            }
            char data[4096];
            ssize_t got = read(s, data, sizeof data);
            if (got <= 0) {
                close(s);
            } else if (got >= 4 && memcmp(data + got - 4, "\r\n\r\n", 4) == 0) {
                if (write(s, answer, (size_t)(head + length)) < 0) close(s);
            }
        }
    }
}

// One request and its whole answer; false when the connection does not go on.
static int ask(int s) {
    char data[65536];
    size_t have = 0;
    if (write(s, REQUEST, sizeof REQUEST - 1) != (ssize_t)sizeof REQUEST - 1) return 0;
    for (;;) {
        ssize_t got = read(s, data + have, sizeof data - 1 - have);
        if (got <= 0) return 0;
        data[have += (size_t)got] = 0;
        char *end = strstr(data, "\r\n\r\n"), *length = strcasestr(data, "content-length:");
        if (end && length && have >= (size_t)(end + 4 - data) + strtoul(length + 15, NULL, 10))
            return strncmp(data, "HTTP/1.1 200", 12) == 0;
    }
}

static void load(const struct sockaddr_storage *to, socklen_t size, double seconds, double rate, size_t slow) {
    int *crowd = malloc((slow + 1) * sizeof *crowd), s = -1;
    for (size_t i = 0; i < slow; i++) crowd[i] = -1;
    uint64_t begin = now(), end = begin + (uint64_t)(seconds * 1e9), step = (uint64_t)(1e9 / rate), due = begin, told = 0;
    unsigned long asked = 0, answered = 0, reopened = 0;
    while (now() < end) {
        // Every second each slow client sends one byte more, or comes back when it was thrown out.
        if (now() - told > 1000000000u) {
            for (size_t i = 0; i < slow; i++) {
                char gone;
                if (crowd[i] >= 0 && recv(crowd[i], &gone, 1, MSG_DONTWAIT) == 0) close(crowd[i]), crowd[i] = -1;
                if (crowd[i] < 0) {
                    crowd[i] = dial(to, size);
                    reopened++;
                    if (write(crowd[i], "GET /networks HTTP/1.1\r\nx: ", 27) < 0) continue;
                }
                if (send(crowd[i], "y", 1, MSG_NOSIGNAL) < 0) close(crowd[i]), crowd[i] = -1;
            }
            told = now();
        }
        if (s < 0) s = dial(to, size);
        asked++;
        int fine = ask(s);
        answered += (unsigned long)fine;
        if (!fine || asked % 10 == 0) close(s), s = -1;
        due += step;
        int64_t left = (int64_t)(due - now());
        if (left > 0) {
            struct timespec rest = {0, left % 1000000000};
            nanosleep(&rest, NULL);
        }
    }
    printf("{\"asked\": %lu, \"answered\": %lu, \"slow\": %lu, \"per_second\": %.1f}\n", asked, answered, reopened,
           asked * 1e9 / (now() - begin));
}

int main(int argc, char **argv) {
    if (argc < 4) return 2;
    if (strcmp(argv[1], "http") == 0) http(argv[2], argv[3], argc > 4 ? atoi(argv[4]) : 3);
    if (strcmp(argv[1], "load") == 0) {
        struct sockaddr_storage at;
        if (argc < 7) return 2;
        signal(SIGPIPE, SIG_IGN);
        socklen_t length = parse(argv[2], argv[3], &at);
        load(&at, length, atof(argv[4]), atof(argv[5]), strtoul(argv[6], NULL, 10));
        return 0;
    }
    if (strcmp(argv[1], "echo") == 0) echo(argv[2], argv[3]);
    int start = strcmp(argv[1], "start") == 0, timed = strcmp(argv[1], "rtt-for") == 0;
    size_t count = strtoul(start ? argv[2] : argv[4], NULL, 10), i, seconds = count;
    if (timed) count *= 100000;
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
    if (timed) {
        int s = dial(&to, size);
        begin = now();
        for (i = 0; i < count && now() - begin < seconds * 1000000000u; i++) {
            uint64_t t = now();
            ping_pong(s);
            samples[i] = now() - t;
        }
        report(samples, i, now() - begin);
        return 0;
    }
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
