"""Speaks to the example `starttls`: starttls.py ADDRESS CERTIFICATE.

The command and the first bytes of the handshake go in one segment, and once plain commands behind
the command.
"""

import socket
import ssl
import sys

address, certificate = sys.argv[1:]
host, port = address.rsplit(":", 1)


def connect():
    sock = socket.create_connection((host, int(port)), timeout=20)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def line_of(sock):
    line = b""
    while not line.endswith(b"\r\n"):
        byte = sock.recv(1)
        assert byte, line
        line += byte
    return line


class Session:
    """TLS in memory, over a socket that this class reads and writes."""

    def __init__(self, sock):
        self.sock = sock
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = ssl.create_default_context(cafile=certificate)
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")

    def call(self, method, *arguments):
        while True:
            try:
                result = method(*arguments)
                self.flush()
                return result
            except ssl.SSLWantReadError:
                self.flush()
                data = self.sock.recv(65536)
                self.incoming.write(data) if data else self.incoming.write_eof()

    def flush(self):
        if data := self.outgoing.read():
            self.sock.sendall(data)

    def ask(self, command):
        self.call(self.tls.write, command + b"\r\n")
        reply = self.call(self.tls.read, 4096)
        print(command, reply)
        return reply


# All in one segment: the command, and the ClientHello.
sock = connect()
assert line_of(sock).startswith(b"220 ")
session = Session(sock)
try:
    session.tls.do_handshake()
except ssl.SSLWantReadError:
    pass
sock.sendall(b"EHLO python\r\nSTARTTLS\r\n" + session.outgoing.read())
assert [line_of(sock) for _ in range(3)][1:] == [b"250 STARTTLS\r\n", b"220 go ahead\r\n"]
session.call(session.tls.do_handshake)
# What was said in the clear is forgotten.
assert session.ask(b"MAIL FROM:<a@localhost>").startswith(b"503 ")
assert session.ask(b"EHLO python") == b"250 localhost\r\n"
assert session.ask(b"MAIL FROM:<a@localhost>").startswith(b"250 ")
assert session.ask(b"QUIT").startswith(b"221 ")
# The server ends with a close_notify: Python would raise SSLEOFError without.
try:
    assert session.call(session.tls.read, 4096) == b""
except ssl.SSLZeroReturnError:
    pass

# A plain command behind the command is no command.
sock = connect()
assert line_of(sock).startswith(b"220 ")
sock.sendall(b"STARTTLS\r\nMAIL FROM:<a@localhost>\r\n")
assert line_of(sock) == b"220 go ahead\r\n"
rest = b""
while data := sock.recv(4096):
    rest += data
print("after a plain command:", rest)
assert rest[:1] == b"\x15", rest  # An alert (RFC 8446, section 5.1).

# Without TLS there is no mail.
sock = connect()
assert line_of(sock).startswith(b"220 ")
sock.sendall(b"MAIL FROM:<a@localhost>\r\n")
assert line_of(sock).startswith(b"530 ")
