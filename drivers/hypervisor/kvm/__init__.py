"""KVM hosts through libvirt: the real hypervisor."""

from .driver import KvmDriver
from .options import KvmOptions

__all__ = ["KvmDriver", "KvmOptions"]
