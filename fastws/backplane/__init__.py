"""Pushes between nodes: bytes on subjects, and no connection.

    base      the contract that every engine keeps
    engines   from a URL to its engine, those of other packages too
    address   the URLs of engines: several servers, credentials, TLS
    session   one connection to an engine's server: dialled, watched, made again
    nats, redis, workers     the engines: NATS, Redis and Valkey, Unix sockets between the workers of one machine
    nats_key  how a node signs that it is who it is
    relay     what nodes say to each other: the only part that knows the core, too

The server imports relay and engines, the workers of a process theirs; engines know base, address and session only.
"""
