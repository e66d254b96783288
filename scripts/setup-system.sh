#!/usr/bin/env bash
# The system packages that Bollard's real backends need, on Debian and its children.
#
#   scripts/setup-system.sh            install what is missing, as root or through sudo
#   scripts/setup-system.sh --missing  print one "tool package" line for each tool that is missing
#
# Ends with 0 when everything is there, with 3 when something is missing but work can go on without it
# (no root here), with 1 when it cannot. Some packages bring a service: openssh-server, tgt, memcached, nfs-ganesha
# and rpcbind (which it wants), postgresql, ceph-mon and ceph-osd. Where there is a systemd it starts the first six with
# Debian's defaults: disable what you do not want, the tests need none of them. They run servers of their own on
# loopback, and a libvirtd of their own in namespaces (docs/kvm-lab.md): libvirt-daemon-system is not needed.
set -euo pipefail

# Debian keeps mkfs and debugfs where an ordinary user's PATH does not look.
PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
python=${PYTHON:-python3}

# tool → package. The only list of this kind: tests/conftest.py asks it through --missing.
# A path stands where a package brings no tool: what libvirt-python is compiled with.
tools='
qemu-img             qemu-utils
qemu-nbd             qemu-utils
qemu-io              qemu-utils
qemu-storage-daemon  qemu-system-common
mkfs.xfs             xfsprogs
mkfs.ext4            e2fsprogs
debugfs              e2fsprogs
nbdkit               nbdkit
nbdcopy              libnbd-bin
nbdinfo              libnbd-bin
unzip                unzip
zstd                 zstd
sshd                 openssh-server
chromium             chromium
qemu-system-x86_64   qemu-system-x86
ipmi_sim             openipmi
ipmitool             ipmitool
libvirtd             libvirt-daemon
virt-qemu-run        libvirt-daemon-driver-qemu
virsh                libvirt-clients
tgtd                 tgt
memcached            memcached
ganesha.nfsd         nfs-ganesha
/usr/lib/x86_64-linux-gnu/ganesha/libfsalvfs.so  nfs-ganesha-vfs
/usr/lib/x86_64-linux-gnu/libnfs.so.13  libnfs13
/usr/lib/x86_64-linux-gnu/qemu/block-iscsi.so  qemu-block-extra
/usr/lib/x86_64-linux-gnu/qemu/block-rbd.so  qemu-block-extra
ceph-mon             ceph-mon
ceph-osd             ceph-osd
ceph                 ceph-common
ip                   iproute2
rclone               rclone
restic               restic
borg                 borgbackup
gcc                  gcc
pkg-config           pkg-config
/usr/include/libvirt/libvirt.h  libvirt-dev
'

missing_tools() {
  local tool package module
  while read -r tool package; do
    [ -z "$tool" ] || [[ $tool == /* && -e $tool ]] || command -v "$tool" >/dev/null || echo "$tool $package"
  done <<<"$tools"
  # Debian keeps PostgreSQL's server off PATH, in a directory per version.
  compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || command -v initdb >/dev/null || echo "initdb postgresql"
  for module in rados rbd; do  # of the system's Python: the driver rbd runs its agents with it
    /usr/bin/python3 -c "import $module" 2>/dev/null || echo "python3-$module python3-$module"
  done
}

venv_works() { [ -x .venv/bin/pip ] || "$python" -c 'import ensurepip, venv' 2>/dev/null; }

has_headers() {
  "$python" -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))'
}

everything_missing() {
  missing_tools
  venv_works || echo "venv python3-venv"  # Debian splits ensurepip off python3
  has_headers || echo "Python.h python3-dev"  # libvirt-python is compiled where it is installed
}

packages_of() { awk '{ print $2 }' <<<"$1" | sort -u | tr '\n' ' '; }

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

may_become_root() {
  [ "$(id -u)" = 0 ] && return 0
  command -v sudo >/dev/null || return 1
  sudo -n true 2>/dev/null && return 0
  # A password prompt is fine in front of a person and hangs everywhere else.
  [ -t 0 ] && [ -z "${CI:-}" ] && sudo -v
}

apt() {
  # The lock timeout: a fresh machine often runs its own unattended upgrade in the first minutes.
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=120 "$@"
}

install() {
  echo "Installing: $1"
  # Stale lists name package versions that mirrors no longer have. One broken third-party source must not
  # stop us, so whether an update was good enough is decided by the installation.
  apt update >/dev/null || echo "apt-get update failed; trying with the lists that are here" >&2
  # shellcheck disable=SC2086  # a list of package names, split on purpose
  apt install --no-install-recommends $1 >/dev/null
}

explain() {
  cat >&2 <<END
────────────────────────────────────────────────────────────────────────
Some system tools are missing: $(awk '{ print $1 }' <<<"$1" | tr '\n' ' ')
$2
On Debian or Ubuntu, install them with
    sudo apt-get install --no-install-recommends $(packages_of "$1")
Without them, tests marked "real" are left out and some drivers cannot run.
────────────────────────────────────────────────────────────────────────
END
}

main() {
  if [ "${1:-}" = --missing ]; then missing_tools; return 0; fi
  local missing why=""
  missing=$(everything_missing)
  [ -n "$missing" ] || return 0
  if ! command -v apt-get >/dev/null; then
    why="This machine has no apt-get; take the packages of the same meaning from your system."
  elif ! may_become_root; then
    why="They were not installed, since this user is neither root nor allowed to use sudo."
  else
    install "$(packages_of "$missing")" || why="apt-get could not install them; its reason stands above."
    missing=$(everything_missing)
    [ -n "$missing" ] || return 0
  fi
  explain "$missing" "${why:-They were installed and still cannot be found on PATH.}"
  venv_works || return 1          # nothing at all runs without a virtual environment
  [ "${CI:-}" != true ] || return 1  # in CI a missing backend is a failure, never a gap
  return 3
}

main "$@"
