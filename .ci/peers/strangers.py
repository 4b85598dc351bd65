"""Connects and leaves at once, and speaks another protocol.

    strangers.py ADDRESS
"""

import socket
import sys

address = sys.argv[1]
for words in b"", b"EHLO example.org\r\n", b"GET / HTTP/1.0\r\n\r\n":
    if address.startswith("unix:"):
        stranger = socket.socket(socket.AF_UNIX)
        stranger.connect(address.removeprefix("unix:"))
    else:
        host, port = address.rsplit(":", 1)
        stranger = socket.create_connection((host, int(port)))
    stranger.settimeout(30)
    stranger.sendall(words)
    stranger.shutdown(socket.SHUT_WR)
    # Until the server has ended its side.
    while stranger.recv(4096):
        pass
    stranger.close()
