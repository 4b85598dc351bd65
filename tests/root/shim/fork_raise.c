/* A C library between a program and the system: each getppid(2) first forks a process, which raises SIGUSR1 and ends.
 * It runs no other program, so it has the handlers and the descriptors of the one that was forked. */

#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

pid_t getppid(void)
{
    int status;
    pid_t child = fork();

    if (child == 0) {
        raise(SIGUSR1);
        _exit(7);
    }
    if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status) || WEXITSTATUS(status) != 7)
        _exit(99);
    return syscall(SYS_getppid);
}
