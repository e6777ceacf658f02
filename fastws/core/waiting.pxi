# Who awaits something that happens to a connection: a dict of their futures, in the order in which they came, or None while
# there is nobody.

async def _wait_among(dict waiters not None, loop):
    """Wait until these are woken."""
    waiter = loop.create_future()
    waiters[waiter] = None
    try:
        await waiter
    finally:
        # One that was cancelled would stay there as long as nothing happens
        waiters.pop(waiter, None)


cdef int wake(dict waiters) except -1:
    """Have all of them go on; whoever waits from here on is another one's."""
    for waiter in waiters or ():
        if not waiter.done():
            waiter.set_result(None)
    return 0
