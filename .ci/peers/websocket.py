"""Speaks to a WebSocket echo server with Python's websockets: text, binary, a large message, many at
once from many clients, a ping, and the handshake of the end. Then one that does not read, and one
that leaves without a word, beside one that is served.

    websocket.py ADDRESS
"""

import asyncio
import contextlib
import random
import sys

import websockets
from websockets.asyncio.client import connect, unix_connect

LARGE = 8_000_000
BLOCK = 256 * 1024


def dial(address):
    options = {"max_size": None, "compression": None}
    if address.startswith("unix:"):
        return unix_connect(address.removeprefix("unix:"), "ws://localhost/", **options)
    return connect(f"ws://{address}/", **options)


async def everything(address):
    async with dial(address) as socket:
        await socket.send("Grüße")
        assert await socket.recv() == "Grüße"
        await socket.send(b"")
        assert await socket.recv() == b""
        await (await socket.ping())
        large = random.Random(1).randbytes(LARGE)
        await socket.send(large)
        assert await socket.recv() == large
        # In fragments: they come back as one message.
        await socket.send(["a", "b", "c"])
        assert await socket.recv() == "abc"
        await socket.close(1000, "enough")
    assert socket.close_code == 1000, socket.close_code
    assert socket.close_reason == "enough", socket.close_reason


async def burst(address, number):
    messages = [f"{number}: {index}" for index in range(200)]
    async with dial(address) as socket:
        for message in messages:
            await socket.send(message)
        assert [await socket.recv() for _ in messages] == messages


async def held_up(address):
    """Sends without reading; websockets reads a little ahead and then no more. The server must
    stop reading: sending comes to a halt, and all comes back when it is read."""
    sent = 0
    async with dial(address) as socket:
        block = b"." * BLOCK
        with contextlib.suppress(TimeoutError):
            while True:
                async with asyncio.timeout(1):
                    await socket.send(block)
                sent += 1
                assert sent < 1000, "the server takes in what it cannot send"
        # The one that was given up is on its way too.
        for _ in range(sent):
            assert await socket.recv() == block
    return sent


async def rude(address):
    socket = await dial(address)
    await socket.send("gone")
    socket.transport.abort()


async def main(address):
    async with asyncio.timeout(50):
        await everything(address)
        await asyncio.gather(*(burst(address, number) for number in range(20)))
        await rude(address)
        sent = await held_up(address)
        await everything(address)
    print(f"websockets {websockets.__version__}; held up after {sent} messages of {BLOCK} bytes")


asyncio.run(main(sys.argv[1]))
