"""A vendor's package in the making: `bollard new-driver NAME` writes what lies in `templates`."""
