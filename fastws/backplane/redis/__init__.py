"""Redis and Valkey as an engine: one server, one that Sentinels watch, or a cluster.

    conversation  what is said on one connection
    scout         which server is the master, and in a cluster of which slots
    node          a master, with a connection to publish and one to be subscribed
    engine        the masters that there are now, and who of them has a subject

A message is published on one connection and comes back on another: a server delivers on the connection that is
subscribed whenever it can, but answers a command only after what it has for that connection already. All that one node
publishes on a subject takes one connection, so that it stays in order, and nothing is sent twice.
"""

from .engine import Redis

__all__ = ["Redis"]
