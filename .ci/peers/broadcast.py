"""Listens to producers on other threads; one member never reads, and one comes late."""

import re, socket, sys

host, port = sys.argv[1].rsplit(":", 1)

def connect():
    peer = socket.create_connection((host, int(port)))
    peer.settimeout(30)
    return peer

def listen(peer, number):
    last = {}
    lines = peer.makefile()
    for _ in range(number):
        producer, line = map(int, re.fullmatch(r"producer (\d): (\d+)\n", lines.readline()).groups())
        # Nothing is missed by a member that reads, and nothing comes twice.
        assert last.setdefault(producer, line - 1) == line - 1, (producer, line)
        last[producer] = line
    return set(last)

deaf, reader = connect(), connect()
assert listen(reader, 2000) == {1, 2, 3}
assert listen(connect(), 500) == {1, 2, 3}
deaf.close()
assert listen(connect(), 500) == {1, 2, 3}
