// SPDX-License-Identifier: Apache-2.0 OR MIT
// Echo server in five usual shapes: echo epoll|select|poll|threads|prefork ADDRESS PORT
// Prints "port N" once it listens.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define CONNECTIONS 1000
#define BLOCK 16384

static void die(const char *what) {
    perror(what);
    exit(1);
}

static int listening(const char *address, const char *port) {
    struct addrinfo hints = {.ai_flags = AI_PASSIVE | AI_NUMERICHOST, .ai_socktype = SOCK_STREAM}, *found;
    int error = getaddrinfo(address, port, &hints, &found);
    if (error) {
        fprintf(stderr, "%s: %s\n", address, gai_strerror(error));
        exit(1);
    }
    int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    if (fd < 0) die("socket");
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one)) die("SO_REUSEADDR");
    if (bind(fd, found->ai_addr, found->ai_addrlen)) die("bind");
    if (listen(fd, 511)) die("listen");
    struct sockaddr_storage own;
    socklen_t len = sizeof own;
    if (getsockname(fd, (struct sockaddr *)&own, &len)) die("getsockname");
    int number = own.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&own)->sin6_port : ((struct sockaddr_in *)&own)->sin_port;
    printf("port %d\n", ntohs(number));
    fflush(stdout);
    freeaddrinfo(found);
    return fd;
}

// Writes everything to a blocking or non-blocking socket. 0 when the peer is gone.
static int put(int fd, const char *data, ssize_t len) {
    while (len > 0) {
        ssize_t n = send(fd, data, len, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) {
            struct pollfd p = {fd, POLLOUT, 0};
            poll(&p, 1, -1);
        } else if (n < 0 && errno != EINTR) {
            return 0;
        } else if (n > 0) {
            data += n;
            len -= n;
        }
    }
    return 1;
}

// Echoes what is there now. 0: the connection is over.
static int once(int fd) {
    char block[BLOCK];
    ssize_t n = recv(fd, block, sizeof block, 0);
    if (n < 0) return errno == EAGAIN || errno == EINTR;
    return n > 0 && put(fd, block, n);
}

static void *serve(void *argument) {
    int fd = (int)(long)argument;
    while (once(fd)) {}
    close(fd);
    return NULL;
}

static void with_epoll(int listener) {
    fcntl(listener, F_SETFL, O_NONBLOCK);
    int ep = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.fd = listener}, events[64];
    if (epoll_ctl(ep, EPOLL_CTL_ADD, listener, &event)) die("epoll_ctl");
    for (;;) {
        int n = epoll_wait(ep, events, 64, -1);
        for (int i = 0; i < n; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) {
                int accepted; // edge-triggered: until EAGAIN
                while ((accepted = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
                    event.events = EPOLLIN | EPOLLRDHUP | EPOLLET;
                    event.data.fd = accepted;
                    if (epoll_ctl(ep, EPOLL_CTL_ADD, accepted, &event)) die("epoll_ctl");
                }
                if (errno != EAGAIN) die("accept4");
                continue;
            }
            char block[BLOCK];
            ssize_t got;
            while ((got = read(fd, block, sizeof block)) > 0) {
                if (!put(fd, block, got)) break;
            }
            if (got >= 0 || errno != EAGAIN) close(fd);
        }
    }
}

static void with_select(int listener) {
    fd_set all, ready;
    int top = listener;
    FD_ZERO(&all);
    FD_SET(listener, &all);
    for (;;) {
        ready = all;
        if (select(top + 1, &ready, NULL, NULL, NULL) < 0) continue;
        for (int fd = 0; fd <= top; fd++) {
            if (!FD_ISSET(fd, &ready)) continue;
            if (fd == listener) {
                struct sockaddr_storage peer;
                socklen_t len = sizeof peer;
                int accepted = accept(listener, (struct sockaddr *)&peer, &len);
                if (accepted < 0) die("accept");
                if (peer.ss_family != AF_INET && peer.ss_family != AF_INET6) die("family of the peer's address");
                if (accepted >= FD_SETSIZE) {
                    close(accepted);
                    continue;
                }
                FD_SET(accepted, &all);
                if (accepted > top) top = accepted;
            } else if (!once(fd)) {
                close(fd);
                FD_CLR(fd, &all);
            }
        }
    }
}

static void with_poll(int listener) {
    static struct pollfd set[CONNECTIONS];
    int used = 1;
    set[0] = (struct pollfd){listener, POLLIN, 0};
    for (;;) {
        if (poll(set, used, -1) < 0) continue;
        for (int i = used - 1; i > 0; i--) {
            if (set[i].revents && !once(set[i].fd)) {
                close(set[i].fd);
                set[i] = set[--used];
            }
        }
        if (set[0].revents && used < CONNECTIONS) {
            int accepted = accept(listener, NULL, NULL);
            if (accepted < 0) die("accept");
            set[used++] = (struct pollfd){accepted, POLLIN, 0};
        }
    }
}

static void with_threads(int listener) {
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, 128 * 1024);
    for (;;) {
        int accepted = accept(listener, NULL, NULL);
        if (accepted < 0) die("accept");
        pthread_t thread;
        if (pthread_create(&thread, &attributes, serve, (void *)(long)accepted)) die("pthread_create");
    }
}

static void with_prefork(int listener) {
    for (int i = 0; i < 4; i++) {
        if (fork() == 0) {
            for (;;) {
                struct sockaddr_storage peer;
                socklen_t len = sizeof peer;
                int accepted = accept(listener, (struct sockaddr *)&peer, &len);
                if (accepted < 0) die("accept");
                serve((void *)(long)accepted);
            }
        }
    }
    while (wait(NULL) > 0) {}
}

int main(int argc, char **argv) {
    if (argc != 4) {
        fprintf(stderr, "usage: echo epoll|select|poll|threads|prefork ADDRESS PORT\n");
        return 2;
    }
    int listener = listening(argv[2], argv[3]);
    if (!strcmp(argv[1], "epoll")) with_epoll(listener);
    if (!strcmp(argv[1], "select")) with_select(listener);
    if (!strcmp(argv[1], "poll")) with_poll(listener);
    if (!strcmp(argv[1], "threads")) with_threads(listener);
    if (!strcmp(argv[1], "prefork")) with_prefork(listener);
    return 2;
}
