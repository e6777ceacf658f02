"""A person, or a pipe, at the end of a connection: `fastws connect URL`.

- `talk`: what is typed goes out, what comes is shown, and the status with which it ends.
- `screen`: where it is shown: around the line that is being typed, or plainly. `text`: how, so that nobody is fooled.
- `commands`: lines that begin with a slash.

It imports the core, `client`, `errors` and `options`. Who imports it: `process`.
"""
