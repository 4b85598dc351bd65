"""Types on the terminal of a client, and is its server."""

import os, pty, select, socket, subprocess, termios

COMMAND = ["cargo", "run", "--quiet", "--example", "terminal", "--", "--connect"]

class Terminal:
    def __init__(self):
        self.ours, theirs = pty.openpty()
        attributes = termios.tcgetattr(theirs)
        attributes[3] &= ~termios.ECHO
        attributes[1] &= ~termios.OPOST
        termios.tcsetattr(theirs, termios.TCSANOW, attributes)
        listener = socket.create_server(("127.0.0.1", 0))
        listener.settimeout(60)
        address = "127.0.0.1:%d" % listener.getsockname()[1]
        self.running = subprocess.Popen([*COMMAND, address], stdin=theirs, stdout=theirs)
        self.theirs = theirs
        self.server, _ = listener.accept()
        self.server.settimeout(30)
        self.lines = self.server.makefile("rb")

    def type(self, text):
        os.write(self.ours, text)

    def hears(self, line):
        came = self.lines.readline()
        assert came == line, f"{line!r} should have come, not {came!r}"

    def shows(self, text):
        shown = b""
        while len(shown) < len(text):
            ready, _, _ = select.select([self.ours], [], [], 30)
            assert ready, f"{text!r} should have been shown, not {shown!r} alone"
            shown += os.read(self.ours, 1000)
        assert shown == text, shown

    def ends(self, code):
        self.server.close()
        self.lines.close()
        assert self.running.wait(30) == code, self.running.returncode
        assert os.get_blocking(self.theirs)

# Both directions, while neither side waits for the other; then Ctrl-D, and a last word.
terminal = Terminal()
for number in range(3):
    terminal.server.sendall(b"unasked %d\n" % number)
    terminal.shows(b"unasked %d\n" % number)
    terminal.type(b"typed %d\n" % number)
    terminal.hears(b"typed %d\n" % number)
    assert os.get_blocking(terminal.theirs)
terminal.type(b"no end of a line\x04\x04")
terminal.hears(b"no end of a line")
terminal.hears(b"")
terminal.server.sendall(b"bye\n")
terminal.shows(b"bye\n")
terminal.ends(0)
print("typed, shown, Ctrl-D: all came")

# The server's end ends it while it waits for a line.
terminal = Terminal()
terminal.server.sendall(b"over\n")
terminal.shows(b"over\n")
terminal.ends(0)
print("the server's end: it has ended")
