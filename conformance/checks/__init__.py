"""The checks, one module per group. Each function's docstring says what is true of a conformant driver."""
