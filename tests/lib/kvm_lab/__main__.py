"""A host with a running guest, to look at by hand.

`PYTHONPATH=tests/lib .venv/bin/python -m kvm_lab`, as root.
"""

from . import Disk, Lab, qcow2

_TEXT = """\
virsh -c '{uri}' list --all
virsh -c '{uri}' qemu-agent-command guest '{{"execute": "guest-info"}}'
files are in {directory}; its disk is mounted in the guest at /mnt/data
Enter ends all of it. """

with Lab() as lab:
    host = lab.host("a")
    directory = lab.new_directory()
    lab.template.clone(host, directory, [Disk(qcow2(directory / "data.qcow2"), "data")], "guest")
    input(_TEXT.format(uri=host.uri, directory=directory))
