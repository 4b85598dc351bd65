/* The services over UDP on epoll and nothing else: the practical limit.
 *
 *     cc -O2 -o epoll_udp epoll_udp.c && ./epoll_udp echo|sink|source 7000
 *
 * Edge-triggered, one thread, one socket: receives until the kernel has no more, and replies to each
 * datagram at once. A source sends a window of datagrams for each that it receives, and a sink
 * returns those that ask for it. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

enum { READ_BUFFER = 64 * 1024, PERIOD = 251, DATAGRAM = 1200, WINDOW = 64, ASKS = 1 };
enum service { ECHO, SINK, SOURCE };

static enum service service;
static char buffer[READ_BUFFER];
static char block[WINDOW * DATAGRAM];

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static int bind_to(int port)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, len) < 0)
        die("bind");
    getsockname(fd, (struct sockaddr *)&address, &len);
    printf("listening on 127.0.0.1:%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

static void reply(int fd, const struct sockaddr_in *to, const char *data, size_t len)
{
    if (sendto(fd, data, len, 0, (const struct sockaddr *)to, sizeof *to) < 0)
        die("sendto");
}

static void serve(int fd)
{
    for (;;) {
        struct sockaddr_in from;
        socklen_t from_len = sizeof from;
        ssize_t len =
            recvfrom(fd, buffer, READ_BUFFER, 0, (struct sockaddr *)&from, &from_len);
        if (len < 0 && errno == EAGAIN)
            return;
        if (len < 0)
            die("recvfrom");
        if (service == ECHO) {
            reply(fd, &from, buffer, len);
        } else if (service == SOURCE) {
            for (int i = 0; i < WINDOW; i++)
                reply(fd, &from, block + i * DATAGRAM, DATAGRAM);
        } else if (len > 0 && buffer[0] == ASKS) {
            reply(fd, &from, buffer, len);
        }
    }
}

int main(int argc, char **argv)
{
    static const char *const names[] = {"echo", "sink", "source"};
    int number = 0;
    while (argc > 2 && number < 3 && strcmp(argv[1], names[number]))
        number++;
    if (argc < 3 || number == 3) {
        fprintf(stderr, "usage: epoll_udp echo|sink|source PORT\n");
        return 2;
    }
    service = number;
    for (size_t i = 0; i < sizeof block; i++)
        block[i] = i % PERIOD;
    int fd = bind_to(atoi(argv[2]));
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN | EPOLLET};
    if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0)
        die("epoll");
    for (;;) {
        int n = epoll_wait(epoll, &event, 1, -1);
        if (n < 0 && errno != EINTR)
            die("epoll_wait");
        if (n > 0)
            serve(fd);
    }
}
