"""HTTP/1.1, until a connection is a WebSocket.

- `connection`: one of them, from the first byte on; `reader` makes requests of bytes, `heads` bytes of responses.
- `request`, `response`, `calls`: what a resource is given and what it answers; `files`, `cors`: what needs no resource.
- `upgrade`: what a service decides about a client before its WebSocket opens.
- `forwarded`, `redaction`, `refusal`: whom a proxy speaks for, what no log shall have, who is turned away.
- `site`: what all connections of a server share.

It imports `service`, `net`, `handshake`, `options` and the ground. Who imports it: `server` and the doors.
"""
