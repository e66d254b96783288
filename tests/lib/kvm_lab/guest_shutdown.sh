#!/bin/sh
# What qemu-ga (shutdown -h -P +0, -h -r +0) and the ACPI power button run.
case " $* " in
  *" -r "*) act=reboot ;;
  *) act=poweroff ;;
esac
# In the background, so that the agent can still answer its caller.
(umount -a -r; $act -f) >/dev/null 2>&1 &
