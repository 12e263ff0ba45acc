// SPDX-License-Identifier: Apache-2.0 OR MIT
// getaddrinfo() of the C library through a name server of the test: resolve SERVER NAME. Prints one address a line.
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <resolv.h>
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv) {
    if (argc != 3 || res_init()) return 2;
    _res.nscount = 1;
    _res.nsaddr_list[0].sin_family = AF_INET;
    _res.nsaddr_list[0].sin_port = htons(53);
    if (inet_pton(AF_INET, argv[1], &_res.nsaddr_list[0].sin_addr) != 1) return 2;
    _res.retrans = 2;
    _res.retry = 2;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found, *a;
    int error = getaddrinfo(argv[2], "80", &hints, &found);
    if (error) {
        printf("error %s\n", gai_strerror(error));
        return 1;
    }
    for (a = found; a; a = a->ai_next) {
        char text[64];
        if (getnameinfo(a->ai_addr, a->ai_addrlen, text, sizeof text, NULL, 0, NI_NUMERICHOST)) return 1;
        puts(text);
    }
    return 0;
}
