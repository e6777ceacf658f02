"""Pushes between nodes: bytes on subjects, and no connection.

- `base`: the contract that every engine keeps. `engines`: from a URL to its engine, those of other packages, too.
- `nats`, `redis`: NATS, and Redis or Valkey. `workers`: Unix sockets between the workers of one machine.
- `address`: the URLs of engines. `session`: one connection to a server of theirs, watched and made again for ever.
- `relay`: what nodes say to each other, the only part that knows the core's hub. `members`, `retirement`, `questions`:
  who there is, which groups were removed, what is asked of all.

It imports `_speedups`, `errors`, `logs` and `version`. Who imports it: `options`, `server`, `process`, `ws`.
"""
