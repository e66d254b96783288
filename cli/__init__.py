"""The command line. Importing this package imports nothing heavy; `main` does."""


def main() -> None:
    """Run `bollard …`."""
    from .app import main as run

    run()


__all__ = ["main"]
