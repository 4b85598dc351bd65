/* TLS services on epoll and OpenSSL: the practical limit of a loop in C.
 *
 *     cc -O2 -o epoll_openssl epoll_openssl.c -lssl -lcrypto
 *     ./epoll_openssl echo 7000 tls/certificate.pem tls/key.pem [--usual]
 *
 * OpenSSL reads and writes through a BIO of our own, so that a message takes three system calls. One
 * recv takes up to 128 KiB into a buffer that all connections use, whatever number of records that
 * is, and one that was not filled was the last one for now. The records that are made of it go out
 * by one send. Bytes that the kernel has no room for are kept, and nothing is decrypted for their
 * connection until they have gone; so a write of OpenSSL is never partial.
 *
 * With --usual it makes the system calls that a loop makes with the BIO of OpenSSL for sockets: a send
 * for each record, and a recv more, which says that nothing is there. OpenSSL reads 128 KiB ahead,
 * and releases its buffers between messages, which saves memory and costs instructions. */

#include "loop.h"
#include <openssl/err.h>
#include <openssl/ssl.h>

enum { BATCH = 128 * 1024, RECORD = 16 * 1024, MEGABYTE = 1024 * 1024 };

enum service { ECHO, MEGABYTES };

struct connection {
    int fd;
    SSL *ssl;
    struct bytes kept; /* Records that the kernel had no room for, */
    size_t gone;       /* and how much of them has gone since. */
    size_t owed;       /* Of megabytes: what was not encrypted yet. */
    struct bytes unread; /* What was read and not decrypted when the kernel had no room. */
    bool readable;
    bool hung_up; /* An event told of the end of what the peer sends: there is no other for it. */
    bool ending;  /* It is over when what is kept has gone. */
};

static enum service service;
static SSL_CTX *context;
static BIO_METHOD *method;
static char buffer[RECORD];
static char block[MEGABYTE];
static char wire[BATCH];            /* What one recv took from the connection that is served now, */
static size_t wire_start, wire_end; /* and the part of it that was not decrypted yet. */
static struct bytes batch;          /* Records for that connection. */
static bool is_alone;               /* The next record is the only one of its batch. */
static bool is_usual;

static void die_of_ssl(const char *what)
{
    fprintf(stderr, "%s: ", what);
    ERR_print_errors_fp(stderr);
    exit(1);
}

static enum step send_records(struct connection *c, const char *data, size_t len)
{
    ssize_t sent = write_all(c->fd, data, len);
    if (sent < 0)
        return OVER;
    if ((size_t)sent < len)
        append(&c->kept, data + sent, len - sent);
    return MORE;
}

static enum step send_batch(struct connection *c)
{
    enum step step = send_records(c, batch.data, batch.len);
    batch.len = 0;
    return step;
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

static int bio_write(BIO *bio, const char *data, int len)
{
    if (is_alone || is_usual)
        return send_records(BIO_get_data(bio), data, len) == OVER ? -1 : len;
    append(&batch, data, len);
    return len;
}

static ssize_t receive(struct connection *c, char *data, size_t len)
{
    while (c->readable) {
        ssize_t n = recv(c->fd, data, len, 0);
        if (n < 0 && errno == EINTR)
            continue;
        /* As much as was there: the next byte will be an event of its own. */
        c->readable = n == (ssize_t)len || (n > 0 && (c->hung_up || is_usual));
        return n;
    }
    errno = EAGAIN;
    return -1;
}

static int bio_read(BIO *bio, char *data, int len)
{
    struct connection *c = BIO_get_data(bio);
    ssize_t n = 0;
    BIO_clear_retry_flags(bio);
    if (is_usual) {
        n = receive(c, data, len);
    } else {
        if (wire_start == wire_end) {
            wire_start = 0;
            n = receive(c, wire, sizeof wire);
            wire_end = n > 0 ? n : 0;
        }
        if (wire_end > wire_start) {
            n = wire_end - wire_start < (size_t)len ? wire_end - wire_start : (size_t)len;
            memcpy(data, wire + wire_start, n);
            wire_start += n;
        }
    }
    if (n < 0 && errno == EAGAIN)
        BIO_set_retry_read(bio);
    return n;
}

static long bio_control(BIO *bio, int command, long number, void *pointer)
{
    (void)bio, (void)number, (void)pointer;
    return command == BIO_CTRL_FLUSH;
}

/* Decrypts a record and encrypts what is to be sent for it. */
static enum step one_record(struct connection *c)
{
    if (c->owed) {
        size_t len = c->owed < RECORD ? c->owed : RECORD;
        if (SSL_write(c->ssl, block + MEGABYTE - c->owed, len) <= 0)
            return OVER;
        c->owed -= len;
        return MORE;
    }
    int len = SSL_read(c->ssl, buffer, sizeof buffer);
    if (len > 0 && service == MEGABYTES) {
        c->owed = MEGABYTE;
        return MORE;
    }
    if (len > 0) {
        bool is_last = wire_start == wire_end && !c->readable && !SSL_has_pending(c->ssl);
        is_alone = is_last && !batch.len;
        int sent = SSL_write(c->ssl, buffer, len);
        is_alone = false;
        return sent < len ? OVER : is_last ? WAITS : MORE;
    }
    switch (SSL_get_error(c->ssl, len)) {
    case SSL_ERROR_WANT_READ:
        return WAITS;
    case SSL_ERROR_ZERO_RETURN:
        c->ending = true;
        return SSL_shutdown(c->ssl) < 0 ? OVER : WAITS;
    default:
        /* An alert may be in the batch. */
        ERR_clear_error();
        c->ending = true;
        return WAITS;
    }
}

/* Makes a batch of records and sends it. */
static enum step one_batch(struct connection *c)
{
    enum step step = MORE;
    while (step == MORE && batch.len < BATCH && !c->kept.len)
        step = one_record(c);
    if (step == OVER || send_batch(c) == OVER)
        return OVER;
    if (c->kept.len)
        return WAITS;
    return c->ending ? OVER : step;
}

static enum step all_batches(struct connection *c, uint32_t events)
{
    if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        c->readable = true;
    if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        c->hung_up = true;
    if (c->kept.len) {
        enum step step = events & EPOLLOUT ? flush(c) : WAITS;
        if (step != MORE)
            return step;
    }
    for (int i = 0; i < STEPS; i++) {
        enum step step = one_batch(c);
        if (step != MORE)
            return step;
    }
    return watch(EPOLL_CTL_MOD, c, c->fd) < 0 ? OVER : WAITS;
}

static enum step serve(struct connection *c, uint32_t events)
{
    wire_start = 0;
    wire_end = c->unread.len;
    if (wire_end) {
        memcpy(wire, c->unread.data, wire_end);
        forget(&c->unread);
    }
    enum step step = all_batches(c, events);
    if (wire_start < wire_end)
        append(&c->unread, wire + wire_start, wire_end - wire_start);
    return step;
}

static struct connection *begin(int fd)
{
    struct connection *c = calloc(1, sizeof *c);
    BIO *bio = BIO_new(method);
    if (!c || !bio)
        die("calloc");
    c->fd = fd;
    c->ssl = SSL_new(context);
    if (!c->ssl)
        die_of_ssl("SSL_new");
    BIO_set_data(bio, c);
    BIO_set_init(bio, 1);
    SSL_set_bio(c->ssl, bio, bio);
    SSL_set_accept_state(c->ssl);
    return c;
}

static void end(struct connection *c)
{
    batch.len = 0;
    ERR_clear_error();
    SSL_free(c->ssl);
    close(c->fd);
    forget(&c->kept);
    forget(&c->unread);
    free(c);
}

static void set_up(const char *certificate, const char *key)
{
    context = SSL_CTX_new(TLS_server_method());
    if (!context || SSL_CTX_use_certificate_chain_file(context, certificate) != 1 ||
        SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) != 1)
        die_of_ssl("certificate and key");
    /* Without this it reads the header of a record, then the record. */
    SSL_CTX_set_read_ahead(context, 1);
    if (is_usual) {
        SSL_CTX_set_default_read_buffer_len(context, BATCH);
        SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
    }
    method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "socket");
    if (!method)
        die_of_ssl("BIO_meth_new");
    BIO_meth_set_write(method, bio_write);
    BIO_meth_set_read(method, bio_read);
    BIO_meth_set_ctrl(method, bio_control);
}

int main(int argc, char **argv)
{
    static const char *const names[] = {"echo", "megabyte"};
    service = argc > 4 ? number_of(argv[1], names, 2) : 2;
    if (service == 2) {
        fprintf(stderr, "usage: epoll_openssl echo|megabyte PORT CERTIFICATE KEY [--usual]\n");
        return 2;
    }
    is_usual = argc > 5 && !strcmp(argv[5], "--usual");
    for (int i = 0; i < MEGABYTE; i++)
        block[i] = i % PERIOD;
    set_up(argv[3], argv[4]);
    run(atoi(argv[2]));
}
