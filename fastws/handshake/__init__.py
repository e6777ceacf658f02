"""The opening handshake of RFC 6455 section 4 and the negotiation of RFC 7692 section 7: values in, values out, no I/O.

- `server`: a request is checked and answered.
- `deflate`: permessage-deflate is negotiated.
- `fields`: what header fields are made of.

It imports `errors` only. Who imports it: `options`, `http1`.
"""
