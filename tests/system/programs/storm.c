// SPDX-License-Identifier: Apache-2.0 OR MIT
// storm ADDRESS PORT COUNT: connects to an echo server that often while a timer interrupts it every millisecond.
#define _GNU_SOURCE
#include <errno.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

static volatile sig_atomic_t hits;

static void handler(int number) {
    (void)number;
    hits++;
}

static void die(const char *what, int turn) {
    fprintf(stderr, "connection %d: %s: %s\n", turn, what, strerror(errno));
    exit(1);
}

int main(int argc, char **argv) {
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM}, *to;
    if (argc != 4 || getaddrinfo(argv[1], argv[2], &hints, &to)) return 2;
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &action, NULL);
    struct itimerval every = {{0, 1000}, {0, 1000}};
    setitimer(ITIMER_REAL, &every, NULL);
    int count = atoi(argv[3]);
    for (int i = 0; i < count; i++) {
        char block[64] = {0};
        struct sockaddr_storage peer;
        socklen_t len = sizeof peer;
        int fd = socket(to->ai_family, SOCK_STREAM, 0);
        if (fd < 0) die("socket", i);
        if (connect(fd, to->ai_addr, to->ai_addrlen)) die("connect", i);
        if (getpeername(fd, (struct sockaddr *)&peer, &len)) die("getpeername", i);
        if (send(fd, block, sizeof block, 0) != sizeof block) die("send", i);
        if (recv(fd, block, sizeof block, MSG_WAITALL) != sizeof block) die("recv", i);
        close(fd);
    }
    printf("%d connections, %d signals\n", count, (int)hits);
    return 0;
}
