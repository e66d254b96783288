"""One module per revision. They are written once, and never changed after a release."""
