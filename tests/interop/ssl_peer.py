"""One end of a TLS connection, played by Python's ssl; the test in Rust plays the other end.

    ssl_peer.py serve   HOST:PORT ROLE OPTIONS
    ssl_peer.py connect HOST:PORT ROLE OPTIONS

A server says `listening on HOST:PORT`, serves one connection and ends. Roles:

    echo    sends back what it gets, and ends when the peer has ended
    rounds  sends N bytes in rounds, each of which has to come back before the next; then ends
    send    sends N bytes, then ends its side; only then reads to the end (not with `socket`)
    answer  reads to the end, only then sends N bytes and ends its side
    cut     sends N bytes and leaves without a close_notify
    crowd   opens connections that stop in the middle of their ClientHello, N of them, then plays
            `rounds` on some others while those hang; says `slowest SECONDS` of these

At the end it says `sent N SHA256`, `received N SHA256` and `end eof`, or `end` and the name of the
exception that ended the connection. A stream without a close_notify ends with `SSLEOFError`.
"""

import argparse
import random
import socket
import ssl
import time

from asyncio_peer import BLOCK, Tally, say

LIMIT = 60


class Blocking:
    """A socket of the module ssl."""

    def __init__(self, context, sock, **names):
        self.tls = context.wrap_socket(sock, suppress_ragged_eofs=False, **names)
        self.sock = self.tls

    def write(self, data):
        self.tls.sendall(data)

    def read(self):
        return self.tls.recv(BLOCK)

    def end(self):
        """Sends a close_notify and waits for that of the peer, before which no data may come."""
        self.sock = self.tls.unwrap()


class InMemory:
    """TLS without a socket, and one below it: this goes on reading after its own close_notify."""

    def __init__(self, context, sock, step=BLOCK, **names):
        self.sock, self.step = sock, step
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, **names)
        self.has_ended = False
        self.until_done(self.tls.do_handshake)

    def until_done(self, call, *arguments):
        while True:
            try:
                return call(*arguments)
            except ssl.SSLWantReadError:
                self.flush()
                if data := self.sock.recv(self.step):
                    self.incoming.write(data)
                else:
                    self.incoming.write_eof()
            finally:
                self.flush()

    def flush(self):
        data = self.outgoing.read()
        for start in range(0, len(data), self.step):
            self.sock.sendall(data[start : start + self.step])

    def write(self, data):
        self.until_done(self.tls.write, data)

    def read(self):
        try:
            return self.until_done(self.tls.read, BLOCK)
        except ssl.SSLZeroReturnError:
            # In place of no bytes, after our own end.
            return b""

    def end(self):
        """Sends a close_notify, and waits for nothing."""
        try:
            self.tls.unwrap()
        except ssl.SSLWantReadError:
            pass
        self.flush()


def in_bytes(context, sock, **names):
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return InMemory(context, sock, 1, **names)


APIS = {"socket": Blocking, "memory": InMemory, "bytes": in_bytes}


class Conversation:
    def __init__(self, args):
        self.args = args
        self.random = random.Random(args.bytes)
        self.sent = Tally()
        self.received = Tally()

    def over(self, sock, **names):
        sock.settimeout(LIMIT)
        self.connection = APIS[self.args.api](context(self.args), sock, **names)
        self.version = self.connection.tls.version()
        return self

    def write(self, data):
        self.connection.write(data)
        self.sent.add(data)

    def read(self):
        data = self.connection.read()
        self.received.add(data)
        return data

    def blocks(self, size):
        left = self.args.bytes
        while left > 0:
            count = min(left, size())
            left -= count
            yield self.random.randbytes(count)

    def take_rest(self):
        while self.read():
            pass

    def send(self):
        for data in self.blocks(lambda: BLOCK):
            self.write(data)

    def rounds(self):
        for data in self.blocks(lambda: self.random.randint(1, 60_000)):
            self.write(data)
            back = b""
            while len(back) < len(data):
                part = self.read()
                if not part:
                    raise EOFError(f"the stream ended at {self.received}")
                back += part
            if back != data:
                raise ValueError(f"others than were sent, after {self.received}")

    def play(self, role):
        error = None
        try:
            match role:
                case "echo":
                    while data := self.read():
                        self.write(data)
                    self.connection.end()
                case "rounds":
                    self.rounds()
                    self.connection.end()
                case "send":
                    self.send()
                    self.connection.end()
                    self.take_rest()
                case "answer":
                    self.take_rest()
                    self.send()
                    self.connection.end()
                case "cut":
                    self.send()
                    # Without a reset, though there may be bytes that were not read.
                    self.connection.sock.shutdown(socket.SHUT_WR)
                    while self.connection.sock.recv(BLOCK):
                        pass
        except ssl.SSLError as caught:
            error = caught
        self.connection.sock.close()
        say("version", self.version)
        say("sent", self.sent)
        say("received", self.received)
        say("end", "eof" if error is None else type(error).__name__)


def context(args):
    """TLS of exactly the version that the test names, with a certificate and trust in one root."""
    server = args.side == "serve"
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    made.load_verify_locations(args.roots)
    if server:
        made.load_cert_chain(args.cert, args.key)
    version = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}[args.tls]
    made.minimum_version = made.maximum_version = version
    return made


def where(address):
    host, port = address.rsplit(":", 1)
    return host, int(port)


def client(args):
    sock = socket.create_connection(where(args.address))
    return Conversation(args).over(sock, server_hostname="localhost")


def serve(args):
    with socket.create_server(where(args.address)) as listener:
        host, port = listener.getsockname()
        say("listening on", f"{host}:{port}")
        sock, _ = listener.accept()
    Conversation(args).over(sock, server_side=True).play(args.role)


def hello(args):
    """The first bytes that a client sends."""
    outgoing = ssl.MemoryBIO()
    tls = context(args).wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()


def crowd(args):
    whole = hello(args)
    hanging = []
    for number in range(args.bytes):
        sock = socket.create_connection(where(args.address))
        sock.sendall(whole[: number * len(whole) // args.bytes])
        hanging.append(sock)
    say("hanging", len(hanging))
    args.bytes = 100_000
    slowest = 0.0
    for _ in range(20):
        start = time.monotonic()
        conversation = client(args)
        conversation.rounds()
        conversation.connection.end()
        slowest = max(slowest, time.monotonic() - start)
    say("slowest", slowest)
    # Until the test has looked.
    input()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("side", choices=["connect", "serve"])
    parser.add_argument("address")
    parser.add_argument("role", choices=["echo", "rounds", "send", "answer", "cut", "crowd"])
    parser.add_argument("--roots", required=True)
    parser.add_argument("--cert")
    parser.add_argument("--key")
    parser.add_argument("--tls", choices=["1.2", "1.3"], required=True)
    parser.add_argument("--api", choices=APIS, default="socket")
    parser.add_argument("--bytes", type=int, default=0)
    args = parser.parse_args()
    if args.role == "crowd":
        crowd(args)
    elif args.side == "serve":
        serve(args)
    else:
        client(args).play(args.role)


if __name__ == "__main__":
    main()
