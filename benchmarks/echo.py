"""What does one message cost that comes in and goes back?

Connections keep a number of messages under way each: one shows the price of a read and a write, many what is saved when
a read brings several.
"""

from harness import Scenario, main

SCENARIOS = [
    Scenario(connections=100, size=64, window=1),
    Scenario(connections=100, size=64, window=32),
    Scenario(connections=100, size=1024, window=8),
    Scenario(connections=10, size=16384, window=4),
    Scenario(connections=2, size=1 << 20, window=1),
]

if __name__ == "__main__":
    main("echo", __doc__, SCENARIOS)
