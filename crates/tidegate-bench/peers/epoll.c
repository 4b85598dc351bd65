/* The services on epoll and nothing else: the practical limit.
 *
 *     cc -O2 -o epoll epoll.c && ./epoll echo 7000 [--aligned]
 *
 * Edge-triggered, one thread, one read buffer for all connections, replies written at once; bytes
 * that the kernel has no room for are kept, and its connection is not read until that has gone. A read
 * that was not filled was the last one for now. The read buffer comes from malloc; with --aligned
 * it begins where a page begins, which the kernel copies into a little faster. */

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

enum service { ECHO, LINES, SINK, SOURCE };

struct bytes {
    char *data;
    size_t len, room;
};

struct connection {
    int fd;
    struct bytes kept;    /* What the kernel had no room for, */
    size_t gone;          /* and how much of it has gone since. */
    struct bytes partial; /* A line of which the end is missing. */
    bool readable;
    bool hung_up; /* An event told of the end of what the peer sends: there is no other for it. */
    bool ending;  /* It is over when what is kept has gone. */
    size_t place; /* How far a source is in its block. */
};

/* What a step came to. */
enum step { MORE, WAITS, OVER };

static enum service service;
static int epoll;
static char *buffer;
static char block[BLOCK];
static struct bytes replies; /* The replies to one read, which go out together. */

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

static enum step send_bytes(struct connection *c, const char *data, size_t len)
{
    ssize_t sent = write_all(c->fd, data, len);
    if (sent < 0)
        return OVER;
    if ((size_t)sent < len)
        append(&c->kept, data + sent, len - sent);
    return MORE;
}

static enum step flush(struct connection *c)
{
    ssize_t sent = write_all(c->fd, c->kept.data + c->gone, c->kept.len - c->gone);
    if (sent < 0)
        return OVER;
    c->gone += sent;
    if (c->gone < c->kept.len)
        return WAITS;
    c->gone = 0;
    forget(&c->kept);
    return c->ending ? OVER : MORE;
}

static enum step send_lines(struct connection *c, const char *data, size_t len)
{
    const char *end = data + len;
    replies.len = 0;
    while (data < end) {
        const char *newline = memchr(data, '\n', end - data);
        if (!newline) {
            append(&c->partial, data, end - data);
            break;
        }
        if (c->partial.len) {
            append(&replies, c->partial.data, c->partial.len);
            c->partial.len = 0;
        }
        append(&replies, data, newline + 1 - data);
        data = newline + 1;
    }
    return send_bytes(c, replies.data, replies.len);
}

static enum step read_some(struct connection *c)
{
    ssize_t len = recv(c->fd, buffer, READ_BUFFER, 0);
    if (len < 0) {
        if (errno == EINTR)
            return MORE;
        c->readable = false;
        return errno == EAGAIN ? WAITS : OVER;
    }
    if (len == 0) {
        c->readable = false;
        c->ending = true;
        return flush(c);
    }
    /* As much as was there: the next byte will be an event of its own. */
    c->readable = len == READ_BUFFER || c->hung_up;
    enum step step = MORE;
    if (service == ECHO)
        step = send_bytes(c, buffer, len);
    else if (service == LINES)
        step = send_lines(c, buffer, len);
    return step == MORE && !c->readable ? WAITS : step;
}

static enum step produce(struct connection *c)
{
    ssize_t len = send(c->fd, block + c->place, BLOCK - c->place, MSG_NOSIGNAL);
    if (len < 0)
        return errno == EAGAIN ? WAITS : errno == EINTR ? MORE : OVER;
    c->place = (c->place + len) % BLOCK;
    return MORE;
}

static enum step serve(struct connection *c, uint32_t events)
{
    if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        c->readable = true;
    if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        c->hung_up = true;
    if ((events & EPOLLOUT) && c->kept.len && flush(c) == OVER)
        return OVER;
    for (int i = 0; i < STEPS; i++) {
        enum step step = WAITS;
        if (c->readable && !c->kept.len)
            step = read_some(c);
        if (step != OVER && service == SOURCE) {
            enum step produced = produce(c);
            if (produced != WAITS)
                step = produced;
        }
        if (step != MORE)
            return step;
    }
    /* To be told at once of what was told before, after the others had their turn. */
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = c};
    return epoll_ctl(epoll, EPOLL_CTL_MOD, c->fd, &event) < 0 ? OVER : WAITS;
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
        struct connection *c = calloc(1, sizeof *c);
        if (!c)
            die("calloc");
        c->fd = fd;
        struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                                    .data.ptr = c};
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0)
            die("epoll_ctl");
    }
}

static void end(struct connection *c)
{
    close(c->fd);
    forget(&c->kept);
    forget(&c->partial);
    free(c);
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

static char *read_buffer(bool aligned)
{
    char *bytes = aligned ? aligned_alloc(4096, READ_BUFFER) : malloc(READ_BUFFER);
    if (!bytes)
        die("malloc");
    return bytes;
}

int main(int argc, char **argv)
{
    static const char *const names[] = {"echo", "lines", "sink", "source"};
    int known = 0;
    while (argc > 2 && known < 4 && strcmp(argv[1], names[known]))
        known++;
    if (argc < 3 || known == 4) {
        fprintf(stderr, "usage: epoll echo|lines|sink|source PORT [--aligned]\n");
        return 2;
    }
    service = known;
    buffer = read_buffer(argc > 3 && !strcmp(argv[3], "--aligned"));
    for (int i = 0; i < BLOCK; i++)
        block[i] = i % PERIOD;
    raise_descriptor_limit();
    epoll = epoll_create1(EPOLL_CLOEXEC);
    int listener = listen_on(atoi(argv[2]));
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
