"""The other role: a program connects to a server.

- `url`: URLs, taken apart and checked. `redirects`: where another one leads, and what is told there.
- `dialing`: from a URL to a connected socket; `tcp`: to the first address that is there. `proxies`: which proxy is on
  the way; `tunnel`, `socks` and `bridge`: how to get through it.
- `connect`: from a URL to an open connection. `opening`: the opening handshake on a transport. `endpoints`: what
  connections with the same options and the same listener share.
- `reconnecting`: one connection after another; `backoff`: when, and when not. `background`: the loop of all that
  blocks.

It imports the core, `handshake`, `net`, `options`, `service` and `errors`. Who imports it: `sync`, `terminal`, and
`fastws` itself when somebody asks for it.
"""
