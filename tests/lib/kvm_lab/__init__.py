"""Hosts and guests of our own: real libvirt and QEMU, started and broken at will (docs/kvm-lab.md)."""

from .disk_images import MIB, qcow2
from .domain_xml import Disk
from .guests import Guest, Template
from .host import Host, kill
from .lab import Lab
from .polling import until
from .vms import Vm, new_name

__all__ = ["MIB", "Disk", "Guest", "Host", "Lab", "Template", "Vm", "kill", "new_name", "qcow2", "until"]
