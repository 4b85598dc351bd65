"""The services on asyncio, or on uvloop, as their documentation writes them.

    python3 asyncio_server.py echo|lines|sink|source PORT [--api protocol|streams|datagrams] [--uvloop]

Datagrams are echo, sink and source.
"""

import argparse
import asyncio
import resource

READ_BUFFER = 64 * 1024
BLOCK = bytes(index % 251 for index in range(251 * 256))
DATAGRAM, WINDOW, ASKS = 1200, 64, 1
DATAGRAMS = [
    bytes((start + index) % 251 for index in range(DATAGRAM))
    for start in range(0, WINDOW * DATAGRAM, DATAGRAM)
]


class Base(asyncio.Protocol):
    """Does not read from a peer that does not read."""

    def connection_made(self, transport):
        self.transport = transport

    def pause_writing(self):
        self.transport.pause_reading()

    def resume_writing(self):
        self.transport.resume_reading()


class Echo(Base):
    def data_received(self, data):
        self.transport.write(data)


class Lines(Base):
    def __init__(self):
        self.partial = b""

    def data_received(self, data):
        *lines, self.partial = (self.partial + data).split(b"\n")
        for line in lines:
            self.transport.write(line + b"\n")


class Sink(asyncio.Protocol):
    def data_received(self, data):
        pass


class Source(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
        self.paused = False
        self.produce()

    def produce(self):
        # A write that the kernel takes whole never pauses: the others come in between.
        for _ in range(16):
            if self.paused or self.transport.is_closing():
                return
            self.transport.write(BLOCK)
        asyncio.get_running_loop().call_soon(self.produce)

    def pause_writing(self):
        self.paused = True

    def resume_writing(self):
        self.paused = False
        self.produce()


class DatagramEcho(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, address):
        self.transport.sendto(data, address)


class DatagramSink(DatagramEcho):
    """Returns those that ask for it."""

    def datagram_received(self, data, address):
        if data[0] == ASKS:
            self.transport.sendto(data, address)


class DatagramSource(DatagramEcho):
    """Sends a window for each that it receives."""

    def datagram_received(self, data, address):
        for datagram in DATAGRAMS:
            self.transport.sendto(datagram, address)


async def echo(reader, writer):
    while data := await reader.read(READ_BUFFER):
        writer.write(data)
        await writer.drain()


async def lines(reader, writer):
    while (line := await reader.readline()).endswith(b"\n"):
        writer.write(line)
        await writer.drain()


async def sink(reader, writer):
    while await reader.read(READ_BUFFER):
        pass


async def source(reader, writer):
    while True:
        writer.write(BLOCK)
        await writer.drain()
        # A drain that need not wait does not let the others run.
        await asyncio.sleep(0)


def closing(handler):
    async def handle(reader, writer):
        try:
            await handler(reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    return handle


async def serve_datagrams(arguments):
    protocol = {"echo": DatagramEcho, "sink": DatagramSink, "source": DatagramSource}
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        protocol[arguments.service], local_addr=("127.0.0.1", arguments.port)
    )
    announce(transport.get_extra_info("sockname"))
    await asyncio.Event().wait()


def announce(address):
    print("listening on %s:%d" % address, flush=True)


async def serve(arguments):
    loop = asyncio.get_running_loop()
    where = {"host": "127.0.0.1", "port": arguments.port, "backlog": 4096}
    if arguments.api == "protocol":
        protocol = {"echo": Echo, "lines": Lines, "sink": Sink, "source": Source}
        server = await loop.create_server(protocol[arguments.service], **where)
    else:
        handler = {"echo": echo, "lines": lines, "sink": sink, "source": source}
        # Lines may be longer than the 64 KiB that are usual.
        server = await asyncio.start_server(
            closing(handler[arguments.service]), limit=1024 * 1024, **where
        )
    announce(server.sockets[0].getsockname())
    await server.serve_forever()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("service", choices=["echo", "lines", "sink", "source"])
    parser.add_argument("port", type=int)
    parser.add_argument("--api", choices=["protocol", "streams", "datagrams"], default="protocol")
    parser.add_argument("--uvloop", action="store_true")
    arguments = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if arguments.uvloop:
        import uvloop

        uvloop.install()
    asyncio.run(serve_datagrams(arguments) if arguments.api == "datagrams" else serve(arguments))


main()
