"""socketify: uWebSockets under Python, with a loop of its own (libuv) and publishing in C++."""

from __future__ import annotations

import socket

from common import HOST, MAX_SIZE, OPTIONS
from socketify import App, AppListenOptions, AppOptions, CompressOptions

TOPIC = "all"


def free_port() -> int:
    """It does not tell which port it was given."""
    with socket.socket() as chosen:
        chosen.bind((HOST, 0))
        return chosen.getsockname()[1]


def main() -> None:
    certificate = OPTIONS.certificate
    app = App(AppOptions(key_file_name=certificate, cert_file_name=certificate) if certificate else None)

    def echo(connection, message, opcode) -> None:
        connection.send(message, opcode)

    def publish(connection, message, opcode) -> None:
        app.publish(TOPIC, message, opcode, OPTIONS.deflate)

    app.ws(
        "/*",
        {
            "compression": CompressOptions.SHARED_COMPRESSOR if OPTIONS.deflate else CompressOptions.DISABLED,
            "max_payload_length": MAX_SIZE,
            "idle_timeout": 120,
            "open": lambda connection: connection.subscribe(TOPIC),
            "message": echo if OPTIONS.mode == "echo" else publish,
        },
    )
    port = free_port()
    app.listen(AppListenOptions(port=port, host=HOST), lambda config: print(port, flush=True))
    app.run()


if __name__ == "__main__":
    main()
