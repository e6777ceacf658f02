"""Sockets and time; no HTTP.

- `sockets`: they listen at an address, a path or a descriptor; `kernel_backlog` says what may lie unsent in them.
- `listening`: connections are accepted, and brought past the PROXY protocol (`proxy_protocol`) and TLS (`tls`).
- `share`: which worker accepts, where several do at the same sockets.
- `limits`: how many there may be. `deadlines`: how long each may take. `turns`: how much work a turn of the loop does.
- `forking`: a child of a fork has no part in them.

It imports `_speedups`, `errors`, `logs` and `options`. Who imports it: `http1`, `server`, `process`.
"""
