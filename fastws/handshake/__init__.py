"""The opening handshake of RFC 6455 section 4 and the negotiation of RFC 7692 section 7: values in, values out, no I/O.

- `server`: a request is checked and answered. `client`: it is made, and its answer checked.
- `deflate`: permessage-deflate is negotiated, from either side.
- `fields`: what header fields are made of. `mappings`: how they, queries and cookies are read.

It imports `errors` only. Who imports it: `options`, `http1`, `server`, `client` and `http`.
"""
