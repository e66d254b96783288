"""The conformance suite: what storage vendors run until they hold a verdict that they can publish."""
