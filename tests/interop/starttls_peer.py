"""TLS in the middle of a connection, by asyncio; the test in Rust plays the other end.

    starttls_peer.py serve   HOST:PORT --cert FILE --key FILE
    starttls_peer.py connect HOST:PORT --roots FILE --bytes N

A server says `listening on HOST:PORT` and serves one connection. Both ends talk in the clear first: the
client says NOOP some times, which comes back, then STARTTLS, which is answered with `220 go ahead`.
After the handshake the server sends back what it gets. The client sends N bytes in rounds and checks
that they come back, says `encrypted VERSION`, and ends.
"""

import argparse
import asyncio
import random
import ssl

from asyncio_peer import BLOCK, say

NOOPS = 100


async def serve(args):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(args.cert, args.key)
    ended = asyncio.get_running_loop().create_future()

    async def talk(reader, writer):
        while (line := await reader.readline()) != b"STARTTLS\r\n":
            writer.write(line)
        writer.write(b"220 go ahead\r\n")
        await writer.drain()
        await writer.start_tls(context)
        say("encrypted", writer.get_extra_info("ssl_object").version())
        while data := await reader.read(BLOCK):
            writer.write(data)
            await writer.drain()
        writer.close()
        ended.set_result(None)

    host, port = args.address.rsplit(":", 1)
    server = await asyncio.start_server(talk, host, int(port))
    say("listening on", "%s:%s" % server.sockets[0].getsockname())
    await ended
    server.close()


async def connect(args):
    context = ssl.create_default_context(cafile=args.roots)
    host, port = args.address.rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"NOOP\r\n" * NOOPS + b"STARTTLS\r\n")
    for _ in range(NOOPS):
        if (line := await reader.readline()) != b"NOOP\r\n":
            raise ValueError(line)
    if (line := await reader.readline()) != b"220 go ahead\r\n":
        raise ValueError(line)
    await writer.start_tls(context, server_hostname="localhost")
    say("encrypted", writer.get_extra_info("ssl_object").version())
    left, numbers = args.bytes, random.Random(args.bytes)
    while left > 0:
        data = numbers.randbytes(min(left, numbers.randint(1, BLOCK)))
        left -= len(data)
        writer.write(data)
        if await reader.readexactly(len(data)) != data:
            raise ValueError(f"others than were sent, {left} before the end")
    say("whole")
    writer.close()
    await writer.wait_closed()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("side", choices=["connect", "serve"])
    parser.add_argument("address")
    parser.add_argument("--roots")
    parser.add_argument("--cert")
    parser.add_argument("--key")
    parser.add_argument("--bytes", type=int, default=0)
    args = parser.parse_args()
    asyncio.run({"connect": connect, "serve": serve}[args.side](args))


if __name__ == "__main__":
    main()
