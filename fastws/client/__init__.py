"""The other role: a program connects to a server.

- `url`: URLs, taken apart and checked. `redirects`: where another one leads, and what is told there.
- `dialing`: from a URL to a connected socket; `tcp`: to the first address that is there. `proxies`: which proxy is on
  the way; `tunnel`, `socks` and `bridge`: how to get through it.

It imports `errors` only. Who imports it: nobody yet.
"""
