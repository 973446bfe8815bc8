"""Messages between a server and its client: a length (4 bytes, little-endian), then JSON."""

import json
import socket
import struct


def send(control: socket.socket, message: dict[str, object]) -> None:
    data = json.dumps(message).encode()
    control.sendall(struct.pack("<I", len(data)) + data)


def receive(control: socket.socket) -> dict[str, object] | None:
    """The next message, or None where the other side has closed."""
    head = _exactly(control, 4)
    body = _exactly(control, struct.unpack("<I", head)[0]) if head else None
    return json.loads(body) if body else None


def _exactly(control: socket.socket, count: int) -> bytes | None:
    data = bytearray()
    while len(data) < count:
        part = control.recv(count - len(data))
        if not part:
            return None
        data += part
    return bytes(data)
