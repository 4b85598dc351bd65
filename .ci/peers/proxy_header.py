"""Speaks to the example `proxy_header`, over TLS: proxy_header.py ADDRESS CERTIFICATE."""

import socket
import ssl
import sys

address, certificate = sys.argv[1:]
host, port = address.rsplit(":", 1)
context = ssl.create_default_context(cafile=certificate)
HEADERS = {
    b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n": b"hello, 192.0.2.1:56324\n",
    b"PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n": b"hello, [2001:db8::1]:1\n",
    b"PROXY UNKNOWN\r\n": b"hello, client of 127.0.0.1:",
}

for header, greeting in HEADERS.items():
    sock = socket.create_connection((host, int(port)), timeout=20)
    # In pieces: the layer waits for the end of its line.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for at in range(0, len(header), 7):
        sock.sendall(header[at : at + 7])
    tls = context.wrap_socket(sock, server_hostname="localhost")
    tls.sendall(b"ping\n")
    received = b""
    while not received.endswith(b"ping\n"):
        data = tls.recv(4096)
        assert data, received
        received += data
    print(received)
    assert received.startswith(greeting), received
    # A close_notify both ways.
    tls.unwrap()

# A client that comes without a proxy.
sock = socket.create_connection((host, int(port)), timeout=20)
sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
assert sock.recv(4096) == b""
