// SPDX-License-Identifier: Apache-2.0 OR MIT
// Prints name and address of each interface, as getifaddrs(3) tells them.
#include <arpa/inet.h>
#include <ifaddrs.h>
#include <stdio.h>

int main(void) {
    struct ifaddrs *all;
    if (getifaddrs(&all)) return 1;
    for (struct ifaddrs *one = all; one; one = one->ifa_next) {
        char text[INET6_ADDRSTRLEN];
        if (!one->ifa_addr || (one->ifa_addr->sa_family != AF_INET && one->ifa_addr->sa_family != AF_INET6)) continue;
        const void *ip = one->ifa_addr->sa_family == AF_INET ? (void *)&((struct sockaddr_in *)one->ifa_addr)->sin_addr
                                                             : (void *)&((struct sockaddr_in6 *)one->ifa_addr)->sin6_addr;
        inet_ntop(one->ifa_addr->sa_family, ip, text, sizeof text);
        printf("%s %s\n", one->ifa_name, text);
    }
    freeifaddrs(all);
}
