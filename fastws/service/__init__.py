"""An annotated class becomes a `Service`.

- `marks`: what decorators leave on a class and its methods.
- `signature`, `paths`: what a handler takes, and what stands in a path.
- `compile`: all of that is read once, and becomes the `model`.
- `routing`: from a request's path to what answers it.
- `slowness`: handlers that keep the loop for long are named.

It imports `errors` and `logs`, and knows neither sockets nor HTTP. Who imports it: `http1`, `server` and the doors.
"""
