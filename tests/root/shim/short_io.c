/*
 * Short reads and writes, and calls that fail, for a process that this is loaded into before the
 * C library (LD_PRELOAD, ld.so(8)).
 *
 * By environment variable, each 0 or missing for "leave it alone":
 *   SHIM_READ   no read from a socket gets more bytes than this
 *   SHIM_WRITE  no write to a socket takes more bytes than this
 *   SHIM_EINTR  every so manyeth call of each kind fails with EINTR
 *   SHIM_ABORT  every so manyeth accept4 fails with ECONNABORTED
 *   SHIM_COUNTS a file of COUNTERS 64-bit numbers, which is kept up to date
 *
 * All of it must be what a kernel could do. Failing without asking the kernel is; so is moving
 * fewer bytes than asked for. But a caller with an edge-triggered epoll may take a short transfer
 * for "nothing left now" (epoll(7), question 9) and wait for the next edge. After a transfer that
 * only we made short, the kernel has no reason to report one. So we have it report what is ready
 * now: modifying an entry of the epoll set, even into what it is, does that. To the caller it
 * looks as if the rest had arrived, or the room been made, just after its call.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

/* The order in the file; the tests know it. */
enum { RECV, SEND, SENDMSG, ACCEPT, POLL, SHORT_READS, SHORT_WRITES, EINTRS, ABORTS, COUNTERS };

enum { MOST_FDS = 4096, MOST_SLICES = 64 };

static size_t read_most, write_most;
static uint64_t eintr_every, abort_every;
static uint64_t own_counts[COUNTERS];
static uint64_t *counts = own_counts;

/* What epoll was told about each descriptor. */
static struct { int epoll; struct epoll_event event; } watched[MOST_FDS];

#define REAL(f) ((__typeof__(&f))real(#f))

static void *real(const char *name)
{
    void *f = dlsym(RTLD_NEXT, name);
    if (!f)
        abort();
    return f;
}

static uint64_t setting(const char *name)
{
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 10) : 0;
}

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("SHIM_COUNTS");
    read_most = setting("SHIM_READ");
    write_most = setting("SHIM_WRITE");
    eintr_every = setting("SHIM_EINTR");
    abort_every = setting("SHIM_ABORT");
    if (path) {
        int fd = open(path, O_RDWR | O_CLOEXEC);
        void *file;
        if (fd < 0)
            abort();
        file = mmap(NULL, sizeof own_counts, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (file == MAP_FAILED)
            abort();
        close(fd);
        counts = file;
    }
}

/* Counts a call; whether it is to fail. */
static int interrupted(int kind)
{
    counts[kind]++;
    if (!eintr_every || counts[kind] % eintr_every)
        return 0;
    counts[EINTRS]++;
    errno = EINTR;
    return 1;
}

/* Reports anew what is ready on a descriptor whose transfer we made short. */
static void edge(int fd, int kind)
{
    int error = errno;
    counts[kind]++;
    if (fd < MOST_FDS && watched[fd].epoll)
        REAL(epoll_ctl)(watched[fd].epoll, EPOLL_CTL_MOD, fd, &watched[fd].event);
    errno = error;
}

int epoll_ctl(int epoll, int op, int fd, struct epoll_event *event)
{
    if (fd >= MOST_FDS)
        abort();
    if (op == EPOLL_CTL_DEL) {
        watched[fd].epoll = 0;
    } else {
        watched[fd].epoll = epoll;
        watched[fd].event = *event;
    }
    return REAL(epoll_ctl)(epoll, op, fd, event);
}

int epoll_wait(int epoll, struct epoll_event *events, int most, int timeout)
{
    if (interrupted(POLL))
        return -1;
    return REAL(epoll_wait)(epoll, events, most, timeout);
}

ssize_t recv(int fd, void *buffer, size_t len, int flags)
{
    size_t most = read_most && len > read_most ? read_most : len;
    ssize_t n;
    if (interrupted(RECV))
        return -1;
    n = REAL(recv)(fd, buffer, most, flags);
    if (n == (ssize_t)most && most < len)
        edge(fd, SHORT_READS);
    return n;
}

ssize_t send(int fd, const void *data, size_t len, int flags)
{
    size_t most = write_most && len > write_most ? write_most : len;
    ssize_t n;
    if (interrupted(SEND))
        return -1;
    n = REAL(send)(fd, data, most, flags);
    if (n == (ssize_t)most && most < len)
        edge(fd, SHORT_WRITES);
    return n;
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    struct iovec slices[MOST_SLICES];
    struct msghdr cut = *message;
    size_t asked = 0, most = 0, i;
    ssize_t n;
    if (interrupted(SENDMSG))
        return -1;
    if (!write_most)
        return REAL(sendmsg)(fd, message, flags);
    cut.msg_iov = slices;
    cut.msg_iovlen = 0;
    for (i = 0; i < message->msg_iovlen; i++) {
        struct iovec slice = message->msg_iov[i];
        asked += slice.iov_len;
        if (slice.iov_len > write_most - most)
            slice.iov_len = write_most - most;
        if (cut.msg_iovlen == MOST_SLICES || !slice.iov_len)
            continue;
        slices[cut.msg_iovlen++] = slice;
        most += slice.iov_len;
    }
    n = REAL(sendmsg)(fd, &cut, flags);
    if (n == (ssize_t)most && most < asked)
        edge(fd, SHORT_WRITES);
    return n;
}

int accept4(int fd, struct sockaddr *address, socklen_t *len, int flags)
{
    if (interrupted(ACCEPT))
        return -1;
    if (abort_every && counts[ACCEPT] % abort_every == 1 % abort_every) {
        counts[ABORTS]++;
        errno = ECONNABORTED;
        return -1;
    }
    return REAL(accept4)(fd, address, len, flags);
}
