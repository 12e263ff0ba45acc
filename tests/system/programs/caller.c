// SPDX-License-Identifier: Apache-2.0 OR MIT
// Client of echo.c: caller ADDRESS PORT THREADS CONNECTIONS BYTES
// Every thread opens that many connections one after the other, sends BYTES on each and checks that the same bytes
// come back. Prints "N connections"; the first error ends the program with its text.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct addrinfo *target;
static int connections;
static size_t bytes;

static void die(const char *what, int number) {
    fprintf(stderr, "connection %d: %s: %s\n", number, what, strerror(errno));
    exit(1);
}

static void *call(void *argument) {
    unsigned seed = (unsigned)(long)argument;
    char *out = malloc(bytes), *in = malloc(bytes);
    for (int c = 0; c < connections; c++) {
        for (size_t i = 0; i < bytes; i++) out[i] = (char)(seed = seed * 1103515245u + 12345u, seed >> 16);
        int fd = socket(target->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0) die("socket", c);
        if (connect(fd, target->ai_addr, target->ai_addrlen)) die("connect", c);
        size_t sent = 0, got = 0;
        while (got < bytes) {
            // Both directions at once: an echo that fills both windows must not deadlock.
            struct pollfd p = {fd, POLLIN | (sent < bytes ? POLLOUT : 0), 0};
            if (poll(&p, 1, 20000) <= 0) {
                errno = ETIMEDOUT;
                die("poll", c);
            }
            if (p.revents & POLLOUT) {
                ssize_t n = send(fd, out + sent, bytes - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
                if (n < 0 && errno != EAGAIN) die("send", c);
                if (n > 0) sent += n;
            }
            if (p.revents & ~POLLOUT) {
                ssize_t n = recv(fd, in + got, bytes - got, MSG_DONTWAIT);
                if (n == 0) {
                    errno = EPIPE;
                    die("early end", c);
                }
                if (n < 0 && errno != EAGAIN) die("recv", c);
                if (n > 0) got += n;
            }
        }
        if (memcmp(in, out, bytes)) {
            errno = EBADMSG;
            die("other bytes came back", c);
        }
        if (close(fd)) die("close", c);
    }
    free(out);
    free(in);
    return NULL;
}

int main(int argc, char **argv) {
    if (argc != 6) {
        fprintf(stderr, "usage: caller ADDRESS PORT THREADS CONNECTIONS BYTES\n");
        return 2;
    }
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM};
    int error = getaddrinfo(argv[1], argv[2], &hints, &target), threads = atoi(argv[3]);
    if (error) {
        fprintf(stderr, "%s: %s\n", argv[1], gai_strerror(error));
        return 1;
    }
    connections = atoi(argv[4]);
    bytes = atol(argv[5]);
    pthread_t *all = calloc(threads, sizeof *all);
    for (long i = 0; i < threads; i++) {
        if (pthread_create(&all[i], NULL, call, (void *)(i + 1))) die("pthread_create", 0);
    }
    for (int i = 0; i < threads; i++) pthread_join(all[i], NULL);
    printf("%d connections\n", threads * connections);
    return 0;
}
