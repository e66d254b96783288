"""Fence drivers: `ipmi` and `redfish`. Each exchange with a BMC is a child process that can be killed.

power_off ──▶ confirmed.py ──▶ command   child 1: log in, send "off", end
                           ──▶ read      child 2: log in, read, end      until it says OFF
                           ──▶ read      child 3: log in, read, end      [fence.confirmed] OFF again?

child.py  the parent's side     worker.py  the child's edge     wire.py  what both say
"""
