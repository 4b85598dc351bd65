"""A writer that never awaits drain: 48 MiB a second to whoever listens at IP:PORT.

    python3 flood.py [--uvloop] IP:PORT
"""

import asyncio
import sys
import time

OFFERED = 48 * 1024 * 1024
PIECE = 16 * 1024


async def flood(address):
    host, port = address.rsplit(":", 1)
    _, writer = await asyncio.open_connection(host, int(port))
    start, offered = time.monotonic(), 0
    while not writer.is_closing():
        due = OFFERED * (time.monotonic() - start)
        while offered + PIECE <= due:
            # A new object, as a program's messages are: one and the same would be kept once.
            writer.write(bytes(PIECE))
            offered += PIECE
        await asyncio.sleep(0.01)


if "--uvloop" in sys.argv:
    import uvloop

    run = uvloop.run
else:
    run = asyncio.run
run(flood(sys.argv[-1]))
