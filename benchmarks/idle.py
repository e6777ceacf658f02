"""How much memory does a connection hold that has said nothing yet?

Resident memory of the server, per connection, beyond what it needs with the first hundred.
"""

from harness import Scenario, main

SCENARIOS = [Scenario(connections=1000), Scenario(connections=8000)]

if __name__ == "__main__":
    main("idle", __doc__, SCENARIOS)
