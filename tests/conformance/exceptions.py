"""The cases of Autobahn whose verdict is not OK, and why that is right. Every other case must be OK."""

from __future__ import annotations

# Case: what Autobahn says of it, and why. An entry that has become wrong fails the test as well.
EXCEPTIONS: dict[str, tuple[str, str]] = {
    "7.1.6": ("INFORMATIONAL", "never judged: how much of a large reply arrives when a close frame follows at once"),
    "7.13.1": ("INFORMATIONAL", "never judged: the answer to close code 5000, which RFC 6455 gives no meaning"),
    "7.13.2": ("INFORMATIONAL", "never judged: the answer to close code 65535, which RFC 6455 gives no meaning"),
}

# Likewise of our client.
EXCEPTIONS_OF_CLIENT: dict[str, tuple[str, str]] = EXCEPTIONS
