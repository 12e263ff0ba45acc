// SPDX-License-Identifier: Apache-2.0 OR MIT
// Tries to get past the filter, one way per name: escape WAY [PORT | PID FD | PATH]
// PORT is a listener on the host's 127.0.0.1. Exit status: 0 the way is closed (what the kernel said is printed),
// 1 it is open, 2 wrong usage, 3 the way cannot be tried here.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_pidfd_getfd
#define SYS_pidfd_getfd 438
#endif
#ifndef SYS_clone3
#define SYS_clone3 435
#endif
#define X32 0x40000000

static int closed(const char *how) {
    printf("closed: %s\n", how);
    return 0;
}

static int open_way(const char *how) {
    printf("OPEN: %s\n", how);
    return 1;
}

static int refused_with(long result, int wanted, const char *what) {
    char text[200];
    snprintf(text, sizeof text, "%s gives %ld %s", what, result, result < 0 ? strerrorname_np(errno) : "");
    return result < 0 && errno == wanted ? closed(text) : open_way(text);
}

// Connects the socket to the host's listener. 1 when it got there.
static int reaches(int fd, int port) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    return connect(fd, (struct sockaddr *)&to, sizeof to) == 0;
}

static int socket_reaches(long fd, int port, const char *how) {
    char text[200];
    if (fd < 0) {
        snprintf(text, sizeof text, "%s: no socket (%s)", how, strerrorname_np(errno));
        return closed(text);
    }
    if (reaches((int)fd, port)) return open_way(how);
    snprintf(text, sizeof text, "%s: socket of the network, connect gives %s", how, strerrorname_np(errno));
    return closed(text);
}

static long int80(long nr, long a, long b, long c) {
    long result;
#ifdef __x86_64__
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(nr), "b"(a), "c"(b), "d"(c) : "memory", "r8", "r9", "r10", "r11");
#else
    result = -ENOSYS;
#endif
    return result;
}

// The i386 tables: socket is 359, socketcall 102 (call 1 is socket; its arguments must lie below 4 GiB).
static int i386(void) {
    uint32_t *low = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    if (low == MAP_FAILED) return 3;
    low[0] = AF_INET;
    low[1] = SOCK_STREAM;
    low[2] = 0;
    long direct = int80(359, AF_INET, SOCK_STREAM, 0), call = int80(102, 1, (long)low, 0);
    long ring = int80(425, 4, (long)low, 0), connecting = int80(362, 0, (long)low, 16);
    printf("socket %ld, socketcall %ld, io_uring_setup %ld, connect %ld\n", direct, call, ring, connecting);
    return direct == -ENOSYS && call == -ENOSYS && ring == -ENOSYS && connecting == -ENOSYS ? 0 : 1;
}

static int x32(void) {
    static const int calls[] = {SYS_socket, SYS_connect, SYS_bind, SYS_sendto, SYS_io_uring_setup, SYS_pidfd_getfd, 512 + 25, 512 + 26};
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        errno = 0;
        long result = syscall(calls[i] | X32, AF_INET, SOCK_STREAM, 0, 0, 0, 0);
        if (result >= 0 || errno != ENOSYS) return refused_with(result, ENOSYS, "x32 call");
    }
    return closed("every x32 call gives ENOSYS");
}

// Whether the kernel's own table of AF_UNIX sockets lists this socket: 0 is a socket of the host's Internet stack.
// Sockets are listed by the network namespace they were made in; a table stays that of the namespace it was opened in.
static int unix_table = -1;

static int stands_in(int fd) {
    char name[64], target[64] = "", line[512], wanted[64];
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    if (readlink(name, target, sizeof target - 1) < 0 || strncmp(target, "socket:[", 8)) return 0;
    snprintf(wanted, sizeof wanted, " %lu", strtoul(target + 8, NULL, 10));
    if (unix_table < 0) unix_table = open("/proc/self/net/unix", O_RDONLY);
    lseek(unix_table, 0, SEEK_SET);
    FILE *table = fdopen(dup(unix_table), "r");
    int found = 0;
    while (table && !found && fgets(line, sizeof line, table)) {
        char *at = strstr(line, wanted);
        found = at && strchr(" \n", at[strlen(wanted)]);
    }
    if (table) fclose(table);
    return found;
}

static int families(void) {
    int wrong = 0;
    for (int family = 0; family < 47; family++) {
        if (family == AF_UNIX || family == AF_INET || family == AF_INET6) continue;
        for (int type = 1; type <= 5; type++)
            for (int protocol = 0; protocol < (family == AF_NETLINK ? 40 : 1); protocol++) {
                int fd = socket(family, type, protocol), served = family == AF_NETLINK;
                int right = fd < 0 ? errno == EAFNOSUPPORT || (served && (errno == ESOCKTNOSUPPORT || errno == EPROTONOSUPPORT))
                                   : served && stands_in(fd);
                if (!right) {
                    printf("family %d type %d protocol %d: %d %s\n", family, type, protocol, fd, fd < 0 ? strerrorname_np(errno) : "");
                    wrong = 1;
                }
                if (fd >= 0) close(fd);
            }
    }
    int sv[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, sv)) return refused_with(-1, 0, "socketpair(AF_UNIX)");
    return wrong ? open_way("a family of the host") : closed("no other family gives a socket of the host");
}

// In a user namespace, where the program has the capability that the host's raw sockets want.
static int raw_sockets(void) {
    if (unshare(CLONE_NEWUSER | CLONE_NEWNET)) {
        printf("unshare: %s\n", strerrorname_np(errno));
        return 3;
    }
    int fd = socket(AF_INET, SOCK_RAW, IPPROTO_TCP), six = socket(AF_INET6, SOCK_RAW, IPPROTO_UDP);
    return fd < 0 && six < 0 ? closed(strerrorname_np(errno)) : open_way("raw socket");
}

// Every kind and protocol of the Internet families: no socket, or one that stands in.
static int protocols(void) {
    static const int kinds[] = {SOCK_STREAM, SOCK_DGRAM, SOCK_RAW, SOCK_RDM, SOCK_SEQPACKET, 6 /* SOCK_DCCP */, 10 /* SOCK_PACKET */};
    int wrong = 0;
    for (int family = AF_INET; family <= AF_INET6; family += AF_INET6 - AF_INET)
        for (size_t kind = 0; kind < sizeof kinds / sizeof *kinds; kind++)
            for (int protocol = 0; protocol < 263; protocol++) {
                int fd = socket(family, kinds[kind], protocol);
                if (fd < 0) continue;
                if (!stands_in(fd) && wrong++ < 3) printf("family %d kind %d protocol %d is the host's\n", family, kinds[kind], protocol);
                close(fd);
            }
    return wrong ? open_way("sockets of the host") : closed("no kind or protocol gives a socket of the host");
}

static int pairs(void) {
    int wrong = 0;
    for (int dirt = 0; dirt < 2; dirt++)
        for (int family = 0; family < 47; family++) {
            if (family == AF_UNIX) continue;
            int pair[2], served = family == AF_INET || family == AF_INET6 || family == AF_NETLINK;
            for (int type = 1; type <= 5; type++) {
                long result = syscall(SYS_socketpair, (uint64_t)dirt << 40 | (uint64_t)family, type, 0, pair);
                // As on Linux, type and protocol are looked at before it shows that the family makes no pairs.
                int right = served ? errno == EOPNOTSUPP || errno == ESOCKTNOSUPPORT || errno == EPROTONOSUPPORT : errno == EAFNOSUPPORT;
                if ((result == 0 || !right) && wrong++ < 3)
                    printf("family %d type %d: %ld %s\n", family, type, result, result ? strerrorname_np(errno) : "");
            }
        }
    return wrong ? open_way("socketpair reaches the kernel's families") : closed("socketpair is refused for every other family");
}

// Interface requests work on any socket; AF_UNIX ones are the kernel's own. Whatever is asked, the interfaces are the network's.
static int interfaces(void) {
    static const unsigned requests[] = {SIOCGIFNAME, SIOCGIFFLAGS, SIOCGIFADDR, SIOCGIFMTU, SIOCGIFINDEX, SIOCGIFHWADDR, 0x894c /* SIOCGSKNS */};
    static const char *names[] = {"eth0", "eth1", "wlan0", "docker0", "veth0", "ens3", "enp0s3"};
    int kinds[] = {AF_UNIX, AF_INET, AF_INET6}, wrong = 0;
    for (int kind = 0; kind < 3; kind++) {
        int fd = socket(kinds[kind], SOCK_DGRAM, 0);
        for (uint64_t dirt = 0; dirt < 2; dirt++) {
            for (int index = 1; index < 64; index++) {
                struct ifreq request = {.ifr_ifindex = index};
                if (syscall(SYS_ioctl, fd, dirt << 32 | SIOCGIFNAME, &request)) continue;
                if (strcmp(request.ifr_name, index == 1 ? "lo" : index == 2 ? "netcon0" : "")) wrong++, printf("interface %d is %s\n", index, request.ifr_name);
            }
            for (size_t i = 1; i < sizeof requests / sizeof *requests; i++)
                for (size_t name = 0; name < sizeof names / sizeof *names; name++) {
                    struct ifreq request = {0};
                    strcpy(request.ifr_name, names[name]);
                    if (!syscall(SYS_ioctl, fd, dirt << 32 | requests[i], &request) && wrong++ < 3)
                        printf("request %#x for %s on family %d is answered\n", requests[i], names[name], kinds[kind]);
                }
            struct ifreq all[64] = {0};
            struct ifconf list = {.ifc_len = sizeof all, .ifc_buf = (char *)all};
            if (syscall(SYS_ioctl, fd, dirt << 32 | SIOCGIFCONF, &list)) continue;
            for (size_t i = 0; i < list.ifc_len / sizeof *all; i++)
                if (strcmp(all[i].ifr_name, "lo") && strcmp(all[i].ifr_name, "netcon0")) wrong++, printf("listed: %s\n", all[i].ifr_name);
        }
        close(fd);
    }
    return wrong ? open_way("interfaces of the host") : closed("no interface request is answered by the host");
}

static int families(void);

// A network namespace of its own, where the program has every right, leads to the same filter.
static int namespaces(void) {
    unix_table = open("/proc/self/net/unix", O_RDONLY);
    if (unshare(CLONE_NEWUSER | CLONE_NEWNET)) {
        printf("unshare: %s\n", strerrorname_np(errno));
        return 3;
    }
    return families() | protocols();
}

static int from_child(int port, char *self) {
    pid_t pid = fork();
    if (pid == 0) {
        char text[20];
        snprintf(text, sizeof text, "%d", port);
        execl(self, self, "plain", text, NULL);
        _exit(3);
    }
    int status;
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 3;
}

static int clone3_port;

// A thread made by the bare system call, which no library has seen.
static int from_clone3(void) {
    struct {
        uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls;
    } arguments = {.flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_SYSVSEM, .exit_signal = SIGCHLD};
    arguments.flags &= ~(uint64_t)CLONE_VM; // memory of its own: the C library's thread data is not shared
    long pid = syscall(SYS_clone3, &arguments, sizeof arguments);
    if (pid < 0) {
        // Without CLONE_VM the kernel refuses CLONE_SIGHAND.
        arguments.flags = CLONE_FS | CLONE_FILES;
        pid = syscall(SYS_clone3, &arguments, sizeof arguments);
    }
    if (pid < 0) return 3;
    if (pid == 0) {
        long fd = syscall(SYS_socket, AF_INET, SOCK_STREAM, 0);
        _exit(socket_reaches(fd, clone3_port, "clone3"));
    }
    int status;
    waitpid((pid_t)pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 3;
}

static char raw_stack[65536] __attribute__((aligned(16)));
static volatile int raw_result = -1;

static int raw_thread(void *argument) {
    (void)argument;
    long fd = syscall(SYS_socket, AF_INET, SOCK_STREAM, 0);
    raw_result = fd >= 0 && reaches((int)fd, clone3_port);
    return 0;
}

static int from_raw_thread(void) {
    int flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;
    if (clone(raw_thread, raw_stack + sizeof raw_stack, flags, NULL) < 0) return 3;
    for (int i = 0; i < 500 && raw_result < 0; i++) usleep(10000);
    return raw_result == 0 ? closed("bare thread: socket of the network") : open_way("bare thread");
}

static int take(int pid, int fd) {
    int pidfd = syscall(SYS_pidfd_open, pid, 0);
    if (pidfd < 0) return refused_with(pidfd, 0, "pidfd_open");
    return refused_with(syscall(SYS_pidfd_getfd, pidfd, fd, 0), EPERM, "pidfd_getfd");
}

// Every road into another process: memory, ptrace, its files through /proc.
static int into(int pid) {
    char byte, path[64];
    struct iovec here = {&byte, 1}, there = {(void *)into, 1};
    int wrong = 0;
    if (process_vm_readv(pid, &here, 1, &there, 1, 0) >= 0 || errno != EPERM) wrong |= printf("process_vm_readv: %s\n", strerrorname_np(errno));
    if (ptrace(PTRACE_SEIZE, pid, 0, 0) == 0 || errno != EPERM) wrong |= printf("ptrace: %s\n", strerrorname_np(errno));
    snprintf(path, sizeof path, "/proc/%d/mem", pid);
    if (open(path, O_RDONLY) >= 0) wrong |= printf("%s opens\n", path);
    for (int fd = 0; fd < 64; fd++) {
        snprintf(path, sizeof path, "/proc/%d/fd/%d", pid, fd);
        if (open(path, O_RDWR) >= 0) wrong |= printf("%s opens\n", path);
    }
    for (int fd = 0; fd < 64; fd++) {
        int pidfd = syscall(SYS_pidfd_open, pid, 0);
        if (syscall(SYS_pidfd_getfd, pidfd, fd, 0) >= 0) wrong |= printf("pidfd_getfd %d works\n", fd);
        close(pidfd);
    }
    return wrong ? open_way("a road into the process") : closed("no road into the process");
}

static int dirty(int port) {
    uint64_t high = (uint64_t)0xdeadbeef << 32;
    long fd = syscall(SYS_socket, high | AF_INET, high | SOCK_STREAM, high);
    int result = socket_reaches(fd, port, "socket with dirty upper halves");
    if (fd >= 0) {
        int type = 0;
        socklen_t len = sizeof type;
        struct ifconf all = {.ifc_len = 0};
        long asked = syscall(SYS_ioctl, fd, high | SIOCGIFCONF, &all);
        if (asked == 0 && all.ifc_len > (int)sizeof(struct ifreq) * 8) result |= open_way("SIOCGIFCONF");
        if (syscall(SYS_getsockopt, high | (uint64_t)fd, high | SOL_SOCKET, high | SO_DOMAIN, &type, &len) || type != AF_INET)
            result |= open_way("getsockopt with dirty upper halves");
        struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        if (syscall(SYS_sendto, high | (uint64_t)fd, "x", 1UL, high | MSG_FASTOPEN | MSG_NOSIGNAL, &to, sizeof to) == 1)
            result |= open_way("sendto with MSG_FASTOPEN");
    }
    for (int family = 0; family < 47; family++) {
        if (family == AF_UNIX || family == AF_INET || family == AF_INET6 || family == AF_NETLINK) continue;
        long other = syscall(SYS_socket, high | (uint64_t)family, SOCK_DGRAM | high, high);
        if (other >= 0 || errno != EAFNOSUPPORT) result |= refused_with(other, EAFNOSUPPORT, "dirty family");
    }
    return result;
}

static int fast_open(int port) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    ssize_t n = sendto(fd, "x", 1, MSG_FASTOPEN | MSG_NOSIGNAL, (struct sockaddr *)&to, sizeof to);
    return n < 0 ? closed(strerrorname_np(errno)) : open_way("sendto with MSG_FASTOPEN");
}

// The supervisor's own socket: a program of the network must not drive it.
static int control(const char *path, const char *hello, size_t len) {
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    strncpy(to.sun_path, path, sizeof to.sun_path - 1);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    struct timeval limit = {3, 0};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    if (connect(fd, (struct sockaddr *)&to, sizeof to)) return closed(strerrorname_np(errno));
    if (send(fd, hello, len, MSG_NOSIGNAL) < 0) return closed(strerrorname_np(errno));
    char answer[400] = "";
    ssize_t n = recv(fd, answer, sizeof answer - 1, 0);
    if (n <= 0) return closed("no answer");
    printf("%.100s\n", answer);
    return strncmp(answer, "HTTP/1.1 200", 12) ? closed("refused") : open_way("it answers");
}

// The same from a child, which nobody has seen before it connects.
static int child_controls(const char *path, const char *hello, size_t len) {
    pid_t pid = fork();
    if (pid == 0) _exit(control(path, hello, len));
    int status;
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 3;
}

// A child connects and is gone when the connection is used.
static int handed_on(const char *path, const char *hello, size_t len) {
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    strncpy(to.sun_path, path, sizeof to.sun_path - 1);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0), status;
    struct timeval limit = {3, 0};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    pid_t pid = fork();
    if (pid == 0) _exit(connect(fd, (struct sockaddr *)&to, sizeof to) ? errno : 0);
    waitpid(pid, &status, 0);
    if (!WIFEXITED(status)) return 3;
    if (WEXITSTATUS(status)) return closed(strerrorname_np(WEXITSTATUS(status)));
    if (write(fd, hello, len) < 0) return closed(strerrorname_np(errno));
    char answer[400] = "";
    if (read(fd, answer, sizeof answer - 1) <= 0) return closed("no answer");
    printf("%.100s\n", answer);
    return strncmp(answer, "HTTP/1.1 200", 12) ? closed("refused") : open_way("it answers");
}

static int second_listener(void) {
    struct sock_filter filter[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    struct sock_fprog program = {1, filter};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    long fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
    return refused_with(fd, EBUSY, "a second listener");
}

int main(int argc, char **argv) {
    const char *way = argc > 1 ? argv[1] : "";
    int number = argc > 2 ? atoi(argv[2]) : 0;
    setbuf(stdout, NULL);
    clone3_port = number;
    if (!strcmp(way, "plain")) return socket_reaches(socket(AF_INET, SOCK_STREAM, 0), number, "socket");
    if (!strcmp(way, "io_uring")) {
        char room[256] = {0};
        int result = refused_with(syscall(SYS_io_uring_setup, 8, room), ENOSYS, "io_uring_setup");
        result |= refused_with(syscall(SYS_io_uring_enter, 0, 1, 1, 0, 0, 0), ENOSYS, "io_uring_enter");
        return result | refused_with(syscall(SYS_io_uring_register, 0, 0, 0, 0), ENOSYS, "io_uring_register");
    }
    if (!strcmp(way, "i386")) return i386();
    if (!strcmp(way, "x32")) return x32();
    if (!strcmp(way, "families")) return families();
    if (!strcmp(way, "raw")) return raw_sockets();
    if (!strcmp(way, "child")) return from_child(number, argv[0]);
    if (!strcmp(way, "clone3")) return from_clone3();
    if (!strcmp(way, "thread")) return from_raw_thread();
    if (!strcmp(way, "take") && argc > 3) return take(number, atoi(argv[3]));
    if (!strcmp(way, "into")) return into(number);
    if (!strcmp(way, "dirty")) return dirty(number);
    if (!strcmp(way, "fastopen")) return fast_open(number);
    if (!strcmp(way, "control") && argc > 2) {
        static const char request[] = "GET /networks HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        return control(argv[2], request, sizeof request - 1) | child_controls(argv[2], request, sizeof request - 1);
    }
    if (!strcmp(way, "handed") && argc > 2) {
        static const char request[] = "GET /networks HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        signal(SIGPIPE, SIG_IGN);
        return handed_on(argv[2], request, sizeof request - 1);
    }
    if (!strcmp(way, "protocols")) return protocols();
    if (!strcmp(way, "pairs")) return pairs();
    if (!strcmp(way, "interfaces")) return interfaces();
    if (!strcmp(way, "namespaces")) return namespaces();
    if (!strcmp(way, "listener")) return second_listener();
    return 2;
}
