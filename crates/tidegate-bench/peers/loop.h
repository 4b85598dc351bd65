/* The parts that the epoll servers share: bytes that wait for the kernel, accepting, the loop.
 *
 * Edge-triggered, one thread. A server defines `struct connection`, and the three functions that are
 * declared here. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { READ_BUFFER = 64 * 1024, PERIOD = 251, BLOCK = PERIOD * 256, STEPS = 16, EVENTS = 1024 };

struct bytes {
    char *data;
    size_t len, room;
};

/* What a step came to. */
enum step { MORE, WAITS, OVER };

struct connection;
static struct connection *begin(int fd);
static enum step serve(struct connection *c, uint32_t events);
static void end(struct connection *c);

static int epoll;

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void append(struct bytes *bytes, const char *data, size_t len)
{
    if (bytes->len + len > bytes->room) {
        bytes->room = 2 * (bytes->len + len);
        bytes->data = realloc(bytes->data, bytes->room);
        if (!bytes->data)
            die("realloc");
    }
    memcpy(bytes->data + bytes->len, data, len);
    bytes->len += len;
}

static void forget(struct bytes *bytes)
{
    free(bytes->data);
    *bytes = (struct bytes){0};
}

/* Writes what the kernel takes, and says how much that is; -1 when the connection is over. */
static ssize_t write_all(int fd, const char *data, size_t len)
{
    size_t sent = 0;
    while (sent < len) {
        ssize_t n = send(fd, data + sent, len - sent, MSG_NOSIGNAL);
        if (n >= 0)
            sent += n;
        else if (errno == EAGAIN)
            break;
        else if (errno != EINTR)
            return -1;
    }
    return sent;
}

/* EPOLL_CTL_MOD: to be told at once of what was told before, after the others had their turn. */
static int watch(int operation, struct connection *c, int fd)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = c};
    return epoll_ctl(epoll, operation, fd, &event);
}

static void accept_all(int listener)
{
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno == EAGAIN)
                return;
            if (errno == EINTR || errno == ECONNABORTED)
                continue;
            die("accept4");
        }
        int on = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        if (watch(EPOLL_CTL_ADD, begin(fd), fd) < 0)
            die("epoll_ctl");
    }
}

static int listen_on(int port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int on = 1;
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&address, len) < 0 || listen(fd, 4096) < 0)
        die("listen");
    getsockname(fd, (struct sockaddr *)&address, &len);
    printf("listening on 127.0.0.1:%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

/* The number of a name, or `count` when it is not among them. */
static int number_of(const char *name, const char *const *names, int count)
{
    int number = 0;
    while (number < count && strcmp(name, names[number]))
        number++;
    return number;
}

static void run(int port)
{
    raise_descriptor_limit();
    epoll = epoll_create1(EPOLL_CLOEXEC);
    int listener = listen_on(port);
    /* The only one without a connection. */
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event) < 0)
        die("epoll");
    for (;;) {
        struct epoll_event events[EVENTS];
        int n = epoll_wait(epoll, events, EVENTS, -1);
        if (n < 0 && errno != EINTR)
            die("epoll_wait");
        for (int i = 0; i < n; i++) {
            struct connection *c = events[i].data.ptr;
            if (!c)
                accept_all(listener);
            else if (serve(c, events[i].events) == OVER)
                end(c);
        }
    }
}
