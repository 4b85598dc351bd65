/* A writer that ignores libuv's write queue: 48 MiB a second to whoever listens.
 *
 *     libuv_flood IP:PORT
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

enum { PIECE = 16 * 1024, TICK_MS = 10 };

static const double OFFERED = 48.0 * 1024 * 1024; /* bytes a second */

static uv_tcp_t tcp;
static uv_timer_t timer;
static uint64_t start;
static double offered;

/* A write owns its bytes, as a program's messages would. */
typedef struct {
    uv_write_t request;
    char bytes[PIECE];
} Piece;

static void die(const char *what, int error)
{
    fprintf(stderr, "libuv_flood: %s: %s\n", what, uv_strerror(error));
    exit(1);
}

static void on_written(uv_write_t *request, int status)
{
    free(request); /* the first member of its Piece */
    if (status < 0)
        die("write", status);
}

static void on_tick(uv_timer_t *unused)
{
    (void)unused;
    double due = OFFERED * (double)(uv_hrtime() - start) / 1e9;
    for (; offered + PIECE <= due; offered += PIECE) {
        Piece *piece = malloc(sizeof *piece);
        if (piece == NULL)
            die("malloc", UV_ENOMEM);
        memset(piece->bytes, '.', PIECE);
        uv_buf_t buffer = uv_buf_init(piece->bytes, PIECE);
        int error = uv_write(&piece->request, (uv_stream_t *)&tcp, &buffer, 1, on_written);
        if (error)
            die("write", error);
    }
}

static void on_connected(uv_connect_t *unused, int status)
{
    (void)unused;
    if (status < 0)
        die("connect", status);
    start = uv_hrtime();
    uv_timer_start(&timer, on_tick, 0, TICK_MS);
}

int main(int argc, char **argv)
{
    char *colon = argc == 2 ? strrchr(argv[1], ':') : NULL;
    struct sockaddr_in address;
    if (colon == NULL) {
        fprintf(stderr, "usage: libuv_flood IP:PORT\n");
        return 2;
    }
    *colon = '\0';
    int error = uv_ip4_addr(argv[1], atoi(colon + 1), &address);
    if (error)
        die("address", error);
    uv_loop_t *loop = uv_default_loop();
    uv_tcp_init(loop, &tcp);
    uv_timer_init(loop, &timer);
    static uv_connect_t request;
    error = uv_tcp_connect(&request, &tcp, (const struct sockaddr *)&address, on_connected);
    if (error)
        die("connect", error);
    return uv_run(loop, UV_RUN_DEFAULT);
}
