"""Supervises programs, kills one, and ends all by SIGTERM."""

import contextlib, re, signal, os, subprocess

@contextlib.contextmanager
def supervisor(*arguments):
    command = ["cargo", "run", "--quiet", "--example", "supervisor", "--"]
    running = subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, text=True)
    try:
        yield running
    finally:
        running.kill()
        running.wait()

def until(running, pattern):
    """Returns the match of the first line that matches."""
    for line in running.stdout:
        print(line, end="")
        if match := re.fullmatch(pattern, line.strip()):
            return match
    raise AssertionError(f"no line matches {pattern}")

def gone(pid):
    return not os.path.exists(f"/proc/{pid}")

# One that is killed is started again; the output comes by line; all end in time.
with supervisor("--count", "2", "--grace", "20", "--run", "echo up; exec sleep 1000") as running:
    first = int(until(running, r"1 started as process (\d+)")[1])
    until(running, r"2: up")
    os.kill(first, signal.SIGKILL)
    until(running, r"1 ended: signal: 9 \(SIGKILL\), again in 100 ms")
    second = int(until(running, r"1 started as process (\d+)")[1])
    until(running, r"1: up")
    running.send_signal(signal.SIGTERM)
    until(running, r"ending all within 20 s")
    for _ in range(2):
        until(running, r"[12] ended: signal: 15 \(SIGTERM\)")
    assert running.wait(30) == 0, running.returncode
    assert gone(first) and gone(second)

# One that is deaf to SIGTERM is killed and named.
deaf = "trap '' TERM; echo up; while :; do sleep 0.05; done"
with supervisor("--count", "1", "--grace", "0.2", "--run", deaf) as running:
    until(running, r"1: up")
    running.send_signal(signal.SIGTERM)
    until(running, r"1 had to be killed")
    until(running, r"1 ended: signal: 9 \(SIGKILL\)")
    assert running.wait(30) == 3, running.returncode

# The pause before the next start doubles.
with supervisor("--count", "1", "--run", "echo -n no end of line; exit 4") as running:
    until(running, r"1: no end of line")
    until(running, r"1 ended: exit status: 4, again in 100 ms")
    until(running, r"1 ended: exit status: 4, again in 200 ms")
    running.send_signal(signal.SIGTERM)
    assert running.wait(30) == 0, running.returncode

# When nobody reads its lines, no program is left running without it.
with supervisor("--count", "2", "--run", "echo up; exec sleep 1000") as running:
    pids = [int(until(running, r"[12] started as process (\d+)")[1]) for _ in range(2)]
    until(running, r"[12]: up")
    running.stdout.close()
    os.kill(pids[0], signal.SIGKILL)
    assert running.wait(30) == 1, running.returncode
    assert gone(pids[0]) and gone(pids[1])
