"""Hypervisors: hosts that attach volumes, know objects by introduction, and freeze guests.

Here the driver of the simulated cluster, in `kvm` the one of libvirt. Nothing is imported: the one would
pay for the other's libraries (libvirt, httpcore).
"""
