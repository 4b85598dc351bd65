"""Talks in a chat whose members are on several loops: each sees the lines of all others."""

import socket, sys

host, port = sys.argv[1].rsplit(":", 1)

def connect():
    peer = socket.create_connection((host, int(port)))
    peer.settimeout(30)
    lines = peer.makefile()
    return peer, lines, lines.readline()

members = [connect() for _ in range(8)]
threads = {greeting for _, _, greeting in members}
assert threads == {f"you are on worker-{n}\n" for n in range(4)}, threads
for speaker, (peer, _, _) in enumerate(members):
    peer.sendall(f"line of {speaker}\n".encode())
for own, (_, lines, _) in enumerate(members):
    heard = {lines.readline() for _ in range(len(members) - 1)}
    assert heard == {f"line of {n}\n" for n in range(len(members)) if n != own}, heard
