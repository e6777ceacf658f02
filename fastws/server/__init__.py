"""The server that a user holds: services at an address, from their beginning to their end.

- `server`: the `Server` and `serve`.
- `lifecycle`: `on_start` and `on_stop`. `drain`: clients are closed one by one.
- `shutdown`: the end, step by step; `patience`: for how long it waits.
- `calls`: from other threads. `registry`: named connections and groups, as a mapping.
- `signals`: which of them end a server. `loading`: what the command imports serves nothing by itself.

It imports everything below: `http1`, `service`, `net`, `options`. Who imports it: `process` and the package.
"""
