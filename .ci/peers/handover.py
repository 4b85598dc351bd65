"""Connects all the time while a server hands over to new processes, and counts what is refused, reset or lost."""

import os, pathlib, re, signal, socket, subprocess, sys, threading

program = pathlib.Path(sys.argv[1])
command = [program, "--listen", "127.0.0.1:0", "--grace", "60"]
first = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
host, port = first.stdout.readline().removeprefix("listening on ").strip().rsplit(":", 1)

def line(pattern):
    for line in first.stdout:
        print(line.strip())
        if match := re.fullmatch(pattern + "\n", line):
            return match
    raise AssertionError(f"no line {pattern}")

def serving():
    return int(line(r"process (\d+) serves")[1])

def connect(number):
    # Each address has ports of its own, and a port rests after a connection.
    peer = socket.create_connection((host, int(port)), 30, (f"127.0.1.{1 + number % 200}", 0))
    return peer

def echo(peer, message):
    peer.sendall(message)
    back = b""
    while len(back) < len(message):
        part = peer.recv(65536)
        if not part:
            raise EOFError(f"{len(back)} of {len(message)} bytes came back")
        back += part
    assert back == message

done = threading.Event()
more = threading.Semaphore(0)
echoed, failed = [], []

def client(thread):
    number = thread
    while not done.is_set():
        number += 7
        try:
            with connect(number) as peer:
                echo(peer, b"%d" % number * (1 + number % 5000))
            echoed.append(number)
        except (OSError, EOFError) as error:
            failed.append(error)
        more.release()

def go_on():
    """Waits for some more connections."""
    for _ in range(50):
        assert more.acquire(timeout=30)

def take_over(old):
    with connect(0) as stays:
        echo(stays, b"before")
        os.kill(old, signal.SIGHUP)
        new = serving()
        line(f"process {old} ends: {new} serves")
        go_on()
        # The old process goes on with it.
        echo(stays, b"after")
    line(rf"process {old}: 0 closed, 0 cut, 0 bytes unsent")
    return new

clients = [threading.Thread(target=client, args=(n,)) for n in range(7)]
process = serving()
for thread in clients:
    thread.start()
try:
    for _ in range(2):
        process = take_over(process)
    # A new program that does not serve, and then one that does.
    works = program.with_suffix(".works")
    program.rename(works)
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    os.kill(process, signal.SIGHUP)
    line(rf"process \d+ does not serve: {process} serves on")
    works.rename(program)
    go_on()
    process = take_over(process)
finally:
    done.set()
    for thread in clients:
        thread.join()
    os.kill(process, signal.SIGTERM)
line(rf"process {process}: 0 closed, 0 cut, 0 bytes unsent")
assert first.stdout.read() == "" and first.wait(30) == 0
print(len(echoed), "connections echoed,", len(failed), "failed:", failed[:5])
assert len(echoed) > 200 and not failed
