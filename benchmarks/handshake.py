"""What does an opening handshake cost, when clients come in crowds and leave without a word?"""

from harness import Scenario, main

SCENARIOS = [Scenario(connections=64)]

if __name__ == "__main__":
    main("handshake", __doc__, SCENARIOS)
