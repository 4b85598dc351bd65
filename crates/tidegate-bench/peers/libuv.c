/* The services on libuv, as its guide writes a server, and better where that is easy.
 *
 *     cc -O2 -o libuv libuv.c $(pkg-config --cflags --libs libuv) && ./libuv echo 7000
 *
 * One read buffer for all connections. Replies are tried at once with uv_try_write; what the
 * kernel has no room for goes to uv_write, and its connection is not read until that has gone.
 * Every line is sent back by a write of its own. */

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <uv.h>

enum { READ_BUFFER = 64 * 1024, PERIOD = 251, BLOCK = PERIOD * 256, AT_ONCE = 16 };

enum service { SERVE_ECHO, SERVE_LINES, SERVE_SINK, SERVE_SOURCE };

struct connection {
    uv_tcp_t tcp;
    char *partial; /* A line of which the end is missing. */
    size_t partial_len, partial_room;
    unsigned writes; /* Those that wait for the kernel. */
    bool paused;
    bool ending; /* It is over when the writes are done. */
    size_t place; /* How far a source is in its block. */
};

struct write {
    uv_write_t request;
    struct connection *connection;
    char data[];
};

static enum service service;
static char buffer[READ_BUFFER];
static char block[BLOCK];

static void on_read(uv_stream_t *stream, ssize_t len, const uv_buf_t *unused);
static void produce(struct connection *c);

static void check(int result, const char *what)
{
    if (result < 0) {
        fprintf(stderr, "libuv: %s: %s\n", what, uv_strerror(result));
        exit(1);
    }
}

static void *allocate(void *old, size_t len)
{
    void *memory = realloc(old, len);
    if (!memory) {
        perror("libuv");
        exit(1);
    }
    return memory;
}

static void give_buffer(uv_handle_t *handle, size_t hint, uv_buf_t *given)
{
    (void)handle, (void)hint;
    *given = uv_buf_init(buffer, READ_BUFFER);
}

static void on_close(uv_handle_t *handle)
{
    struct connection *c = handle->data;
    free(c->partial);
    free(c);
}

static void end(struct connection *c)
{
    if (!uv_is_closing((uv_handle_t *)&c->tcp))
        uv_close((uv_handle_t *)&c->tcp, on_close);
}

static void on_written(uv_write_t *request, int status)
{
    struct write *write = (struct write *)request;
    struct connection *c = write->connection;
    free(write);
    c->writes--;
    if (status < 0) {
        end(c);
    } else if (c->writes || uv_is_closing((uv_handle_t *)&c->tcp)) {
        return;
    } else if (c->ending) {
        end(c);
    } else if (service == SERVE_SOURCE) {
        produce(c);
    } else if (c->paused) {
        c->paused = false;
        uv_read_start((uv_stream_t *)&c->tcp, give_buffer, on_read);
    }
}

/* Keeps the bytes until the kernel has them. */
static void write_later(struct connection *c, const char *data, size_t len)
{
    struct write *write = allocate(NULL, sizeof *write + len);
    write->connection = c;
    memcpy(write->data, data, len);
    uv_buf_t bytes = uv_buf_init(write->data, len);
    if (uv_write(&write->request, (uv_stream_t *)&c->tcp, &bytes, 1, on_written) < 0) {
        free(write);
        end(c);
        return;
    }
    c->writes++;
}

static void reply(struct connection *c, const char *data, size_t len)
{
    if (uv_is_closing((uv_handle_t *)&c->tcp))
        return;
    size_t sent = 0;
    if (!c->writes) {
        uv_buf_t bytes = uv_buf_init((char *)data, len);
        int n = uv_try_write((uv_stream_t *)&c->tcp, &bytes, 1);
        if (n < 0 && n != UV_EAGAIN) {
            end(c);
            return;
        }
        sent = n < 0 ? 0 : n;
    }
    if (sent < len)
        write_later(c, data + sent, len - sent);
}

static void keep(struct connection *c, const char *data, size_t len)
{
    if (c->partial_len + len > c->partial_room) {
        c->partial_room = 2 * (c->partial_len + len);
        c->partial = allocate(c->partial, c->partial_room);
    }
    memcpy(c->partial + c->partial_len, data, len);
    c->partial_len += len;
}

static void send_lines(struct connection *c, const char *data, size_t len)
{
    const char *all = data + len;
    while (data < all) {
        const char *newline = memchr(data, '\n', all - data);
        if (!newline) {
            keep(c, data, all - data);
            return;
        }
        size_t line = newline + 1 - data;
        if (c->partial_len) {
            keep(c, data, line);
            reply(c, c->partial, c->partial_len);
            c->partial_len = 0;
        } else {
            reply(c, data, line);
        }
        data += line;
    }
}

static void on_read(uv_stream_t *stream, ssize_t len, const uv_buf_t *unused)
{
    struct connection *c = stream->data;
    (void)unused;
    if (len == UV_EOF && c->writes && service != SERVE_SOURCE) {
        c->ending = true;
        uv_read_stop(stream);
        return;
    }
    if (len < 0) {
        end(c);
        return;
    }
    if (service == SERVE_ECHO)
        reply(c, buffer, len);
    else if (service == SERVE_LINES)
        send_lines(c, buffer, len);
    if (c->writes && service != SERVE_SOURCE && !uv_is_closing((uv_handle_t *)stream)) {
        c->paused = true;
        uv_read_stop(stream);
    }
}

/* Writes until the kernel takes no more; from then on libuv says when it does. */
static void produce(struct connection *c)
{
    for (int i = 0; i < AT_ONCE; i++) {
        uv_buf_t bytes = uv_buf_init(block + c->place, BLOCK - c->place);
        int n = uv_try_write((uv_stream_t *)&c->tcp, &bytes, 1);
        if (n < 0 && n != UV_EAGAIN) {
            end(c);
            return;
        }
        if (n < 0)
            break;
        c->place = (c->place + n) % BLOCK;
    }
    size_t left = BLOCK - c->place;
    size_t from = c->place;
    c->place = 0;
    write_later(c, block + from, left);
}

static void on_connection(uv_stream_t *server, int status)
{
    check(status, "connection");
    struct connection *c = calloc(1, sizeof *c);
    if (!c) {
        perror("libuv");
        exit(1);
    }
    check(uv_tcp_init(server->loop, &c->tcp), "init");
    c->tcp.data = c;
    check(uv_accept(server, (uv_stream_t *)&c->tcp), "accept");
    uv_tcp_nodelay(&c->tcp, 1);
    check(uv_read_start((uv_stream_t *)&c->tcp, give_buffer, on_read), "read");
    if (service == SERVE_SOURCE)
        produce(c);
}

static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

int main(int argc, char **argv)
{
    static const char *const names[] = {"echo", "lines", "sink", "source"};
    int known = 0;
    while (argc > 2 && known < 4 && strcmp(argv[1], names[known]))
        known++;
    if (argc < 3 || known == 4) {
        fprintf(stderr, "usage: libuv echo|lines|sink|source PORT\n");
        return 2;
    }
    service = known;
    signal(SIGPIPE, SIG_IGN); /* a peer that has gone is an error of the write */
    for (int i = 0; i < BLOCK; i++)
        block[i] = i % PERIOD;
    raise_descriptor_limit();
    uv_loop_t *loop = uv_default_loop();
    uv_tcp_t server;
    struct sockaddr_in address;
    int len = sizeof address;
    check(uv_tcp_init(loop, &server), "init");
    check(uv_ip4_addr("127.0.0.1", atoi(argv[2]), &address), "address");
    check(uv_tcp_bind(&server, (struct sockaddr *)&address, 0), "bind");
    check(uv_listen((uv_stream_t *)&server, 4096, on_connection), "listen");
    check(uv_tcp_getsockname(&server, (struct sockaddr *)&address, &len), "address");
    printf("listening on 127.0.0.1:%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return uv_run(loop, UV_RUN_DEFAULT);
}
