"""One program that serves: `fastws.run`, and the `fastws` command.

- `run`: the best event loop, signals, a certificate that is read again.
- `cli`, `command_line`: the command and its arguments. `reload`: it starts again when the code changes.
- `loading`: services by their names.
- `supervisor`, `worker`: the same service in several processes, and what one of them does. `control`: what they say.
- `announcement`, `saying`: what is said on standard streams, as far as anybody hears it.

It imports `server`, `backplane` and what is below. Who imports it: the package, for `run`, and `__main__`.
"""
