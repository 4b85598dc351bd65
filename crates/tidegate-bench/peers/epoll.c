/* The services on epoll and nothing else: the practical limit.
 *
 *     cc -O2 -o epoll epoll.c && ./epoll echo 7000 [--aligned]
 *
 * Edge-triggered, one thread, one read buffer for all connections, replies written at once; bytes
 * that the kernel has no room for are kept, and its connection is not read until that has gone. A read
 * that was not filled was the last one for now. The read buffer comes from malloc; with --aligned
 * it begins where a page begins, which the kernel copies into a little faster. */

#include "loop.h"

enum service { ECHO, LINES, SINK, SOURCE };

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

static enum service service;
static char *buffer;
static char block[BLOCK];
static struct bytes replies; /* The replies to one read, which go out together. */

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
    return watch(EPOLL_CTL_MOD, c, c->fd) < 0 ? OVER : WAITS;
}

static struct connection *begin(int fd)
{
    struct connection *c = calloc(1, sizeof *c);
    if (!c)
        die("calloc");
    c->fd = fd;
    return c;
}

static void end(struct connection *c)
{
    close(c->fd);
    forget(&c->kept);
    forget(&c->partial);
    free(c);
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
    service = argc > 2 ? number_of(argv[1], names, 4) : 4;
    if (service == 4) {
        fprintf(stderr, "usage: epoll echo|lines|sink|source PORT [--aligned]\n");
        return 2;
    }
    buffer = read_buffer(argc > 3 && !strcmp(argv[3], "--aligned"));
    for (int i = 0; i < BLOCK; i++)
        block[i] = i % PERIOD;
    run(atoi(argv[2]));
}
