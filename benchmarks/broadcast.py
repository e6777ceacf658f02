"""What does one message cost each of the connections that it is sent to, and when does the last of them have it?"""

from harness import Scenario, main

SCENARIOS = [
    Scenario(connections=100, size=64, window=1),
    Scenario(connections=1000, size=64, window=1),
    Scenario(connections=1000, size=64, window=16),
    Scenario(connections=1000, size=4096, window=4),
    Scenario(connections=8000, size=64, window=1),
]

if __name__ == "__main__":
    main("broadcast", __doc__, SCENARIOS)
