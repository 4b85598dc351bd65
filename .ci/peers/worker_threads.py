"""Asks a server whose answers other threads compute."""

import bisect, select, socket, sys

host, port = sys.argv[1].rsplit(":", 1)
LARGEST = 200_000
composite = bytearray(LARGEST)
primes = []
for n in range(2, LARGEST):
    if not composite[n]:
        primes.append(n)
        composite[n * n::n] = b"\1" * len(range(n * n, LARGEST, n))

def connect():
    peer = socket.create_connection((host, int(port)))
    peer.settimeout(30)
    return peer

def ask(peer, numbers):
    peer.sendall("".join(f"{n}\n" for n in numbers).encode())

def answers(peer):
    return [line.strip() for line in peer.makefile()]

many = [(n * 7919) % LARGEST for n in range(150)]
busy, gone, other = connect(), connect(), connect()
ask(busy, many)
ask(gone, [LARGEST] * 20)
gone.close()
ask(other, [10, "ten", 10_000_001, 0, 100])
other.sendall(b"1000")
for peer in busy, other:
    peer.shutdown(socket.SHUT_WR)
refusal = "not a number up to 10000000"
assert answers(other) == ["4", refusal, refusal, "0", "25", "168"]
assert answers(busy) == [str(bisect.bisect_left(primes, n)) for n in many]

endless = connect()
endless.sendall(b"1" * 100)
assert answers(endless) == []
print("all answered, in order")

flood = connect()
flood.setblocking(False)
taken = 0
while select.select([], [flood], [], 0.5)[1]:
    taken += flood.send(b"10000000\n" * 10_000)
    assert taken < 64 << 20, "it is read from without end"
print(f"{taken} bytes of requests, then no more were taken")
