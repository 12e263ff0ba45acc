// SPDX-License-Identifier: Apache-2.0 OR MIT
// restart ADDRESS: waits in accept() with an SA_RESTART handler that prints at once, in the handler itself.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static volatile sig_atomic_t count;

static void handler(int number) {
    char text[] = "signal 0\n";
    (void)number;
    text[7] = (char)('0' + ++count);
    if (write(1, text, 9) != 9) _exit(3);
}

int main(int argc, char **argv) {
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM}, *found;
    struct sockaddr_storage own;
    socklen_t len = sizeof own;
    if (argc != 2 || getaddrinfo(argv[1], "0", &hints, &found)) return 2;
    int fd = socket(found->ai_family, SOCK_STREAM, 0);
    if (bind(fd, found->ai_addr, found->ai_addrlen) || listen(fd, 5)) return 2;
    if (getsockname(fd, (struct sockaddr *)&own, &len)) return 2;
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    sigaction(SIGUSR1, &action, NULL);
    printf("port %d\n", ntohs(((struct sockaddr_in *)&own)->sin_port));
    fflush(stdout);
    len = sizeof own;
    int accepted = accept(fd, (struct sockaddr *)&own, &len);
    if (accepted < 0) {
        perror("accept");
        return 1;
    }
    puts("accepted");
    return 0;
}
