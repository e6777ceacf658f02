"""One program that serves: `fastws.run`, and the `fastws` command.

- `run`: the best event loop, signals, a certificate that is read again.
- `cli`, `command_line`: the command and its arguments. `reload`: it starts again when the code changes.
- `loading`: services by their names.
- `supervisor`: the same service in several processes. `order`: what all of them are told. `child`: one of them, as the
  supervisor sees it; `place`: it is started again, and replaced. `worker`: what it does. `control`: what they say.
- `escalation`: what each signal that ends it means. `telling`, `status`: `fastws drain` and `fastws reload`, and how
  they learn what became of it. `notify`, `activation`: what systemd is told, and the sockets that it gives.
- `announcement`, `saying`: what is said on standard streams, as far as anybody hears it.

It imports `server`, `backplane`, `load` and what is below. Who imports it: the package, for `run`, and `__main__`.
"""
