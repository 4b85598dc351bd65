"""One end of a connection, played by asyncio; the test in Rust plays the other end.

    asyncio_peer.py serve   ADDRESS --role ROLE [--api API] [--bytes N] [--tell-flow]
    asyncio_peer.py connect ADDRESS --role ROLE [--api API] [--bytes N] [--tell-flow]

ADDRESS is HOST:PORT or unix:PATH. A server says `listening on ADDRESS`, serves one connection and
ends. Roles:

    echo    sends back what it gets, and ends when the peer has ended
    send    sends N bytes, then ends its side; at the same time reads to the end
    answer  reads to the end, only then sends N bytes and ends its side
    paced   sends N bytes and says `uploaded` when asyncio has passed them on; each line on stdin,
            a number, lets it read until it has got so many in all, which it confirms with `took M`;
            `rest` lets it read to the end, `reset` resets the connection

With --tell-flow, `paused` and `resumed` say when asyncio holds the sender up.

At the end it says `sent N SHA256`, `received N SHA256`, `peak N` (the most that asyncio's write
buffer held) and `end eof`, or `end` and the name of the exception that ended the connection.
"""

import argparse
import asyncio
import hashlib
import random
import socket
import struct
import sys

BLOCK = 256 * 1024


def say(*words):
    print(*words, flush=True)


class Tally:
    """Counts and hashes what goes one way."""

    def __init__(self):
        self.count = 0
        self.hash = hashlib.sha256()

    def add(self, data):
        self.count += len(data)
        self.hash.update(data)

    def __str__(self):
        return f"{self.count} {self.hash.hexdigest()}"


class Conversation:
    """What both kinds of peers share: the tallies, and the data to send."""

    def __init__(self, args):
        self.role = args.role
        self.tell_flow = args.tell_flow
        self.sent = Tally()
        self.received = Tally()
        self.peak = 0
        self.left = args.bytes
        self.random = random.Random(args.bytes)

    def write(self, data):
        self.sent.add(data)
        self.transport.write(data)
        self.peak = max(self.peak, self.transport.get_write_buffer_size())

    def write_block(self):
        size = min(self.left, BLOCK)
        self.left -= size
        self.write(self.random.randbytes(size))

    def flow(self, word):
        if self.tell_flow:
            say(word)

    def reset(self):
        """Discards what is buffered, and has the kernel send a reset: socket(7), SO_LINGER."""
        linger = struct.pack("ii", 1, 0)
        self.transport.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, linger
        )
        self.transport.abort()

    async def obey(self):
        """The role `paced`: what the lines on stdin say."""
        loop = asyncio.get_running_loop()
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            match line.strip():
                case "reset":
                    return self.reset()
                case "rest":
                    return await self.take_rest()
                case number:
                    await self.take(int(number))
                    say("took", self.received.count)
        raise EOFError("the orders ended without a last one")

    def report(self, error):
        say("sent", self.sent)
        say("received", self.received)
        say("peak", self.peak)
        say("end", "eof" if error is None else type(error).__name__)


class StreamPeer(Conversation):
    """On asyncio's streams: StreamReader and StreamWriter."""

    async def talk(self, reader, writer):
        self.reader, self.writer, self.transport = reader, writer, writer.transport
        error = None
        try:
            await self.play()
            writer.close()
            await writer.wait_closed()
        except ConnectionError as caught:
            error = caught
        self.report(error)

    async def play(self):
        match self.role:
            case "echo":
                while data := await self.read():
                    self.write(data)
                    await self.drain()
            case "send":
                await asyncio.gather(self.send(), self.take_rest())
            case "answer":
                await self.take_rest()
                await self.send()
            case "paced":
                while self.left > 0:
                    self.write_block()
                self.transport.set_write_buffer_limits(0)
                await self.drain()
                say("uploaded")
                await self.obey()

    async def read(self, size=BLOCK):
        data = await self.reader.read(size)
        self.received.add(data)
        return data

    async def send(self):
        while self.left > 0:
            self.write_block()
            await self.drain()
        self.writer.write_eof()

    async def drain(self):
        _, high = self.transport.get_write_buffer_limits()
        full = self.transport.get_write_buffer_size() > high
        if full:
            self.flow("paused")
        await self.writer.drain()
        if full:
            self.flow("resumed")

    async def take(self, count):
        while self.received.count < count:
            if not await self.read(min(BLOCK, count - self.received.count)):
                raise EOFError(f"the stream ended at {self.received.count}")

    async def take_rest(self):
        while await self.read():
            pass


class ProtocolPeer(Conversation, asyncio.Protocol):
    """On a transport and a protocol, written to as asyncio's documentation asks for."""

    def __init__(self, args):
        super().__init__(args)
        loop = asyncio.get_running_loop()
        self.made = loop.create_future()
        self.lost = loop.create_future()
        self.writable = asyncio.Event()
        self.took = asyncio.Event()
        self.wanted = 0
        self.saw_eof = False
        self.wrote_eof = False

    def connection_made(self, transport):
        self.transport = transport
        self.made.set_result(None)
        self.writable.set()
        if self.role == "paced":
            transport.set_write_buffer_limits(0)
        if self.role == "send":
            self.fill()

    def data_received(self, data):
        self.received.add(data)
        if self.role == "echo":
            self.write(data)
        elif self.role == "paced" and self.received.count >= self.wanted:
            self.transport.pause_reading()
            self.took.set()

    def eof_received(self):
        self.saw_eof = True
        if self.role == "answer":
            self.fill()
            return True
        return self.role == "send" and not self.wrote_eof

    def pause_writing(self):
        self.flow("paused")
        self.writable.clear()
        if self.role == "echo":
            self.transport.pause_reading()

    def resume_writing(self):
        self.flow("resumed")
        self.writable.set()
        if self.role == "echo":
            self.transport.resume_reading()
        elif self.role == "send" or self.saw_eof:
            # Not from here: after a write_eof within resume_writing asyncio shuts the socket down
            # once more, which fails when the peer has ended its side too.
            asyncio.get_running_loop().call_soon(self.fill)

    def connection_lost(self, error):
        self.lost.set_result(error)

    def fill(self):
        while self.left > 0 and self.writable.is_set():
            self.write_block()
        if self.left == 0 and not self.wrote_eof:
            self.wrote_eof = True
            self.transport.write_eof()
            if self.saw_eof:
                self.transport.close()

    async def play(self):
        await self.made
        if self.role == "paced":
            # In connection_made it has no effect in Python 3.11.2.
            self.transport.pause_reading()
            while self.left > 0:
                self.write_block()
            await self.writable.wait()
            say("uploaded")
            await self.obey()
        self.report(await self.lost)

    async def take(self, count):
        self.wanted = count
        self.took.clear()
        if self.received.count < count:
            self.transport.resume_reading()
            await self.took.wait()

    async def take_rest(self):
        self.wanted = float("inf")
        self.transport.resume_reading()


class BufferedPeer(ProtocolPeer, asyncio.BufferedProtocol):
    """The same with asyncio's BufferedProtocol."""

    def __init__(self, args):
        super().__init__(args)
        self.buffer = bytearray(BLOCK)

    def get_buffer(self, sizehint):
        return self.buffer

    def buffer_updated(self, count):
        self.data_received(bytes(memoryview(self.buffer)[:count]))


PROTOCOLS = {"protocol": ProtocolPeer, "buffered": BufferedPeer}


def is_unix(address):
    return address.startswith("unix:")


def where(address):
    """Arguments for asyncio's functions."""
    if is_unix(address):
        return (address.removeprefix("unix:"),)
    host, port = address.rsplit(":", 1)
    return host, int(port)


def written(sock):
    """The address of a listening socket, as in the arguments."""
    name = sock.getsockname()
    return f"unix:{name}" if isinstance(name, str) else f"{name[0]}:{name[1]}"


async def connect(args):
    loop = asyncio.get_running_loop()
    unix = is_unix(args.address)
    if args.api == "streams":
        opened = asyncio.open_unix_connection if unix else asyncio.open_connection
        await StreamPeer(args).talk(*await opened(*where(args.address)))
    else:
        created = loop.create_unix_connection if unix else loop.create_connection
        make = PROTOCOLS[args.api]
        _, peer = await created(lambda: make(args), *where(args.address))
        await peer.play()


async def serve(args):
    loop = asyncio.get_running_loop()
    unix = is_unix(args.address)
    accepted = loop.create_future()
    if args.api == "streams":
        started = asyncio.start_unix_server if unix else asyncio.start_server

        def connected(reader, writer):
            accepted.set_result(StreamPeer(args).talk(reader, writer))

        server = await started(connected, *where(args.address))
    else:
        created = loop.create_unix_server if unix else loop.create_server

        def make():
            peer = PROTOCOLS[args.api](args)
            accepted.set_result(peer.play())
            return peer

        server = await created(make, *where(args.address))
    say("listening on", written(server.sockets[0]))
    await (await accepted)
    server.close()


async def main(args):
    failures = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: failures.append(context))
    await {"connect": connect, "serve": serve}[args.side](args)
    if failures:
        sys.exit(f"asyncio's exception handler was told: {failures}")


if __name__ == "__main__":
    if sys.version_info < (3, 11):
        sys.exit(f"Python 3.11 or newer is needed, this is {sys.version}")
    parser = argparse.ArgumentParser()
    parser.add_argument("side", choices=["connect", "serve"])
    parser.add_argument("address")
    parser.add_argument("--role", choices=["echo", "send", "answer", "paced"], required=True)
    parser.add_argument("--api", choices=["streams", *PROTOCOLS], default="streams")
    parser.add_argument("--bytes", type=int, default=0)
    parser.add_argument("--tell-flow", action="store_true")
    asyncio.run(main(parser.parse_args()))
