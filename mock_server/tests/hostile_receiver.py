"""A receiver of callbacks whose response depends on the first part of the path; run it in a process of its own.

It prints its port, and then the path of each request.
"""

import asyncio
import sys
from collections import Counter

GIGABYTE = 1024**3
CHUNK = bytes(1024 * 1024)

seen: Counter[str] = Counter()


async def receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        path = await read_request(reader)
        seen[path] += 1
        print(path, flush=True)
        await respond(path, writer)
    except (OSError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


async def read_request(reader: asyncio.StreamReader) -> str:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    length = next(line for line in head.lower().split("\r\n") if line.startswith("content-length:")).partition(":")[2]
    await reader.readexactly(int(length))
    return head.split(" ")[1]


async def respond(path: str, writer: asyncio.StreamWriter) -> None:
    kind = path.split("/")[1]
    if kind == "hangs":
        await asyncio.sleep(3600)
    elif kind == "sends-a-gigabyte":
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {GIGABYTE}\r\n\r\n".encode())
        for _ in range(GIGABYTE // len(CHUNK)):
            writer.write(CHUNK)
            await writer.drain()
    elif kind == "redirects":
        writer.write(b"HTTP/1.1 302 Found\r\nLocation: http://10.0.0.1/\r\nContent-Length: 0\r\n\r\n")
    elif kind == "responds-500":
        writer.write(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n")
    elif kind != "closes-early" and not (kind == "is-down-twice" and seen[path] <= 2):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    await writer.drain()


async def main() -> None:
    server = await asyncio.start_server(receive, "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        sys.exit(130)
