"""Runs scripts of one connection each on asyncio and says what its protocol saw.

    asyncio_scripts.py < SCRIPTS

A line of SCRIPTS is `tcp` or `unix`, a tab and a script; `tests/differential/script.rs` has the
language. The answer is the version of Python, then a line for each script: the lines of its trace
with a tab between them. All
scripts advance step by step side by side, so that waiting for quiet is paid once for all of them.
"""

import asyncio
import selectors
import socket
import struct
import sys
import time

# For both directions of both sockets, so that a stalled peer holds little.
KERNEL_BUFFER = 64 * 1024
# Data is a pattern, so that a receiver can check it; this byte is not in it.
CLOG = 255
PATTERN = bytes(range(251))
# Connections that are open at the same time.
BATCH = 200
# A poll of so many seconds that finds nothing, so often, is quiet.
POLL, QUIET = 0.001, 3
# When the kernel has taken nothing for so long, it is full: TCP may wait 40 ms to acknowledge what
# it got, and then 200 ms and more before it fills what is left of the window.
FULL = 0.6

SETUP = ("clogged", "buffered", "default", "eof", "on")


def pattern(start, size):
    start %= len(PATTERN)
    repeats = (start + size) // len(PATTERN) + 1
    return (PATTERN * repeats)[start : start + size]


class Peer:
    """The other end: a plain socket."""

    def __init__(self, sock):
        sock.setblocking(False)
        if sock.family == socket.AF_INET:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = sock
        self.reading = False
        self.untouched = True
        self.received = b""
        self.sent = 0
        self.end = "open"

    def act(self, words):
        match words:
            case ["sends", size]:
                try:
                    self.sent += self.sock.send(pattern(self.sent, int(size)))
                except ConnectionError:
                    pass
            case ["reads"]:
                self.reading, self.untouched = True, False
            case ["stops"]:
                self.reading = False
            case ["shuts"]:
                try:
                    self.sock.shutdown(socket.SHUT_WR)
                except OSError:
                    # It was reset.
                    pass
            case ["closes"]:
                self.leave()
            case ["resets"]:
                if self.sock.family != socket.AF_UNIX:
                    linger = struct.pack("ii", 1, 0)
                    self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                self.leave()
            case _:
                raise ValueError(words)

    def leave(self):
        self.sock.close()
        self.end = "gone"

    def pump(self):
        """Reads all that is there; says whether there was anything."""
        moved = False
        while self.reading and self.end == "open":
            try:
                data = self.sock.recv(1 << 20)
            except BlockingIOError:
                break
            except ConnectionError:
                self.end = "reset"
            else:
                if not data:
                    self.end = "eof"
                self.received = (self.received + data).lstrip(bytes([CLOG]))
            moved = True
        return moved


class Session:
    """One connection that follows its script."""

    def __init__(self, kind, script):
        self.steps = [step.strip() for step in script.split(";")]
        self.hooks = {}
        self.keep_open = self.clogged = self.buffered = self.default = False
        self.events = []
        self.trace = []
        self.lost = self.saw_eof = False
        self.written = 0
        self.received = 0
        while self.steps and self.steps[0].split()[0] in SETUP:
            self.act(self.steps.pop(0))
        ours, theirs = pair(kind)
        self.peer = Peer(theirs)
        ours.setblocking(False)
        self.sock = ours

    def clog(self):
        """Fills the kernel, so that what is written stays in asyncio's buffer."""
        moved = False
        try:
            while self.clogged and self.sock.send(bytes([CLOG]) * 65536):
                moved = True
        except BlockingIOError:
            pass
        return moved

    def see(self, event):
        self.events.append(event)

    def see_data(self, name, data):
        word = "data" if data == pattern(self.received, len(data)) else "corrupt"
        self.received += len(data)
        prefix, count = f"{name}{word} ", len(data)
        if self.events and self.events[-1].startswith(prefix):
            count += int(self.events.pop().removeprefix(prefix))
        self.see(f"{prefix}{count}")
        self.hook("data")

    def hook(self, name):
        for op in self.hooks.pop(name, ()):
            self.op(op)

    def step(self):
        if not self.steps:
            return
        step = self.steps.pop(0)
        self.act(step)

    def act(self, step):
        words = step.split()
        match words:
            case ["clogged" | "buffered" | "default"]:
                setattr(self, step, True)
            case ["eof", answer]:
                self.keep_open = {"keep": True, "close": False}[answer]
            case ["on", name, *_]:
                ops = step.split(maxsplit=2)[2]
                self.hooks[name] = [op.strip() for op in ops.split("+")]
            case ["peer", *rest]:
                self.peer.act(rest)
            case ["settle"]:
                pass
            case _:
                for op in step.split("+"):
                    self.op(op.strip())

    def op(self, op):
        """What follows from the call stands behind its answer, also what asyncio calls inside it."""
        if op == "raise":
            self.see("raise")
            raise ValueError("as the script says")
        slot = len(self.events)
        self.see("")
        try:
            answer = self.call(op.split())
        except (RuntimeError, ValueError, AttributeError, OSError):
            answer = "error"
        self.events[slot] = f"{op.split()[0]} {answer}"

    def call(self, words):
        transport = self.transport
        match words:
            case ["put", _] | ["put_eof"] if transport.is_closing():
                return "skipped"
            case ["write" | "put", size]:
                start, size = self.written, int(size)
                # Before the call: asyncio may call pause_writing in it, where we write again.
                self.written += size
                try:
                    transport.write(pattern(start, size))
                except RuntimeError:
                    self.written = start
                    raise
            case ["write_eof" | "put_eof"]:
                transport.write_eof()
            case ["close"]:
                transport.close()
            case ["abort"]:
                transport.abort()
            case ["pause"]:
                transport.pause_reading()
            case ["resume"]:
                transport.resume_reading()
            case ["is_reading"]:
                return str(transport.is_reading()).lower()
            case ["limits", high, low]:
                marks = [None if mark == "-" else int(mark) for mark in (high, low)]
                transport.set_write_buffer_limits(*marks)
            case ["switch"]:
                transport.set_protocol(PROTOCOLS[self.buffered](self, "second: "))
            case _:
                raise SyntaxError(words)
        return "ok"

    def state(self):
        if self.lost:
            return "lost"
        transport = self.transport
        size = transport.get_write_buffer_size()
        if size > 0 and not (self.clogged and self.peer.untouched):
            # Depends on what the kernel took.
            size = "some"
        if transport.is_closing():
            return f"closing {size}"
        if self.saw_eof:
            # Whether it is reading is a question of its own: the call `is_reading`.
            return f"eof {size}"
        return f"{'reading' if transport.is_reading() else 'paused'} {size}"

    def note(self):
        """Ends a step of the trace."""
        self.trace.append(f"{', '.join(self.events)} [{self.state()}]".lstrip())
        self.events.clear()


class Protocol(asyncio.Protocol):
    def __init__(self, session, name=""):
        self.session = session
        self.name = name

    def see(self, event):
        self.session.see(self.name + event)

    def connection_made(self, transport):
        self.session.transport = transport
        self.see("made")
        self.session.hook("made")

    def data_received(self, data):
        self.session.see_data(self.name, data)

    def eof_received(self):
        self.see("eof")
        self.session.saw_eof = True
        self.session.hook("eof")
        return self.session.keep_open

    def pause_writing(self):
        if not self.session.default:
            self.see("pause_writing")
            self.session.hook("pause_writing")

    def resume_writing(self):
        self.see("resume_writing")
        self.session.hook("resume_writing")

    def connection_lost(self, error):
        if isinstance(error, ConnectionError):
            end = "reset"
        else:
            end = "error" if error else "none"
        self.see(f"lost {end}")
        self.session.lost = True
        self.session.hook("lost")


class BufferedProtocol(Protocol, asyncio.BufferedProtocol):
    def get_buffer(self, sizehint):
        self.buffer = bytearray(64 * 1024)
        return self.buffer

    def buffer_updated(self, count):
        self.session.see_data(self.name, bytes(self.buffer[:count]))

    # asyncio tells the two kinds apart by their class.
    data_received = None


PROTOCOLS = {False: Protocol, True: BufferedProtocol}


def pair(kind):
    def prepare(sock):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_BUFFER)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, KERNEL_BUFFER)
        return sock

    if kind == "unix":
        ours, theirs = socket.socketpair()
        return prepare(ours), prepare(theirs)
    # With its protocol, by which asyncio knows a socket that has TCP_NODELAY.
    tcp = socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP
    with prepare(socket.socket(*tcp)) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        theirs = prepare(socket.socket(*tcp))
        theirs.connect(listener.getsockname())
        return listener.accept()[0], theirs


class Watched(selectors.DefaultSelector):
    """Counts the events, and waits a moment for them."""

    seen = 0

    def select(self, timeout=None):
        events = super().select(POLL)
        self.seen += len(events)
        return events


def settle(loop, sessions):
    quiet = 0
    while quiet < QUIET:
        before = loop._selector.seen, sum(len(session.events) for session in sessions)
        moved = [session.peer.pump() for session in sessions]
        # One tick of the loop.
        loop.call_soon(loop.stop)
        loop.run_forever()
        after = loop._selector.seen, sum(len(session.events) for session in sessions)
        quiet = quiet + 1 if before == after and not any(moved) else 0


def run(loop, sessions):
    full = time.monotonic()
    while any(session.clogged for session in sessions) and time.monotonic() < full + FULL:
        if any([session.clog() for session in sessions]):
            full = time.monotonic()
        settle(loop, ())
    for session in sessions:
        protocol = PROTOCOLS[session.buffered](session)
        loop.create_task(loop.connect_accepted_socket(lambda p=protocol: p, session.sock))
    settle(loop, sessions)
    for session in sessions:
        session.note()
    while any(session.steps for session in sessions):
        stepping = [session for session in sessions if session.steps]
        for session in stepping:
            session.step()
        settle(loop, sessions)
        for session in stepping:
            session.note()
    for session in sessions:
        session.peer.reading = True
    settle(loop, sessions)
    for session in sessions:
        received = session.peer.received
        session.see(f"peer got {len(received)}")
        session.see(session.peer.end)
        if received != pattern(0, len(received)):
            session.see("corrupt")
        session.note()
        if not session.lost:
            session.transport.abort()
        session.peer.leave()
    settle(loop, sessions)


def main():
    print(sys.version.split()[0])
    scripts = [line.rstrip("\n").split("\t") for line in sys.stdin]
    loop = asyncio.SelectorEventLoop(Watched())
    # What a script raises is no news.
    loop.set_exception_handler(lambda loop, context: None)
    for start in range(0, len(scripts), BATCH):
        sessions = [Session(*script) for script in scripts[start : start + BATCH]]
        run(loop, sessions)
        for session in sessions:
            print("\t".join(session.trace))
    loop.close()


main()
