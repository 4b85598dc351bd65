"""Sends a megabyte to an echo server, and checks what comes back."""

import random, socket, sys, threading

address = sys.argv[1]
if address.startswith("unix:"):
    peer = socket.socket(socket.AF_UNIX)
    peer.connect(address[len("unix:"):])
else:
    host, port = address.rsplit(":", 1)
    peer = socket.create_connection((host, int(port)))
peer.settimeout(30)
sent = random.Random(1).randbytes(1_000_000)

def send():
    peer.sendall(sent)
    peer.shutdown(socket.SHUT_WR)

sender = threading.Thread(target=send)
sender.start()
received = bytearray()
while data := peer.recv(65536):
    received += data
sender.join()
print(f"{len(received)} bytes came back, {'equal' if received == sent else 'different'}")
sys.exit(received != sent)
