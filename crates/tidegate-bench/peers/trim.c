/* Preloaded into a server: at SIGUSR1 the allocator gives back the pages that are free.
 *
 *     cc -O2 -shared -fPIC -o trim trim.c && LD_PRELOAD=./trim SERVER
 *
 * glibc keeps free memory below the last piece that is in use, so that what a process has resident
 * after a burst says little about what it holds. The signal comes while the server waits. */

#include <malloc.h>
#include <signal.h>

static void trim(int signal)
{
    (void)signal;
    malloc_trim(0);
}

__attribute__((constructor)) static void set_up(void)
{
    signal(SIGUSR1, trim);
}
