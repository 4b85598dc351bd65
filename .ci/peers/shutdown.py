"""Ends servers by signals, and checks what they send, cut and report."""

import contextlib, re, select, signal, socket, subprocess, time

@contextlib.contextmanager
def server(*arguments):
    command = ["cargo", "run", "--quiet", "--example", "shutdown", "--"]
    listen = ["--listen", "127.0.0.1:0", *arguments]
    running = subprocess.Popen(command + listen, stdout=subprocess.PIPE, text=True)
    try:
        address = running.stdout.readline().removeprefix("listening on ").strip()
        peer = socket.create_connection(address.rsplit(":", 1))
        with peer:
            yield running, peer
    finally:
        running.kill()
        running.wait()

def fill(peer):
    """Sends until neither the server nor the kernel takes more."""
    sent = bytearray()
    peer.setblocking(False)
    while select.select([], [peer], [], 0.5)[1]:
        part = bytes(i % 251 for i in range(len(sent), len(sent) + 65536))
        sent += part[:peer.send(part)]
    peer.settimeout(30)
    return sent

def begin(running, signum):
    running.send_signal(signum)
    line = running.stdout.readline()
    assert line.startswith("shutting down within "), line

def end(running):
    report, _ = running.communicate(timeout=30)
    print(report.strip(), "- exit code", running.returncode)
    counts = re.fullmatch(r"(\d+) closed, (\d+) cut, (\d+) bytes unsent\n", report)
    return [int(count) for count in counts.groups()], running.returncode

# All that the server has taken is sent before it ends.
for signum in signal.SIGINT, signal.SIGTERM:
    with server("--grace", "30") as (running, peer):
        sent = fill(peer)
        begin(running, signum)
        received = b"".join(iter(lambda: peer.recv(65536), b""))
        peer.close()
        assert len(received) > 0 and sent.startswith(received)
        assert end(running) == ([1, 0, 0], 0)

# A peer that does not read is cut when the grace is over, and counted ...
with server("--grace", "0.5") as (running, peer):
    fill(peer)
    started = time.monotonic()
    begin(running, signal.SIGINT)
    (closed, cut, unsent), code = end(running)
    assert (closed, cut, code) == (0, 1, 3) and unsent > 0
    assert time.monotonic() - started >= 0.5

# ... or at the second signal.
with server("--grace", "3600") as (running, peer):
    fill(peer)
    begin(running, signal.SIGTERM)
    running.send_signal(signal.SIGINT)
    (closed, cut, unsent), code = end(running)
    assert (closed, cut, code) == (0, 1, 3) and unsent > 0
