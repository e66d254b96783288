"""`python -m bollard`."""

from .cli import main

if __name__ == "__main__":
    main()
