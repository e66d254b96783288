#!/bin/sh
# Restores a snapshot from a Bollard archive with sh, awk, sed, unzip, sha256sum and dd, nothing else; parts that
# are compressed with zstd need the tool zstd as well. Version 2 of the rescue files.
#
#   sh RESTORE.sh ARCHIVE VOLUME SNAPSHOT OUTPUT
#
# ARCHIVE is the directory with this file in it (download it first if it lies on S3 or Swift); OUTPUT must
# not exist: it becomes a sparse raw image. Every part is checked against the manifest before it is used.
set -eu

fail() { echo "RESTORE.sh: $1" >&2; exit 1; }
[ $# -eq 4 ] || fail "usage: sh RESTORE.sh ARCHIVE VOLUME SNAPSHOT OUTPUT"
for tool in awk sed unzip sha256sum dd; do
  command -v "$tool" >/dev/null || fail "the tool $tool is missing"
done
volume_dir=$1/v1/$2
manifest=$volume_dir/$3/manifest.json
output=$4
[ -f "$manifest" ] || fail "there is no snapshot $3 of volume $2 in $1"
[ ! -e "$output" ] || fail "$output exists"

# The last line holds the digest of all lines before it.
sealed=$(sed -n '$s/^"sha256":"\([0-9a-f]*\)"}$/\1/p' "$manifest")
actual=$(sed '$d' "$manifest" | sha256sum | cut -c1-64)
[ "$sealed" = "$actual" ] || fail "$manifest is damaged"

number() { sed -n "s/^\"$1\":\([0-9]*\),\$/\1/p" "$manifest"; }
size=$(number size)
granule=$(number granule)
dd if=/dev/null of="$output" bs=1 count=0 seek="$size" 2>/dev/null

# Prints "layer offset bytes sha256" for each part, windows in order, the oldest layer of a window first.
parts() {
  awk -F'"' '
    /^"layers":\[/        { inside = 1; next }
    /^"windows":\[/       { inside = 0 }
    inside                { layer[n++] = $2 }
    /^\{"offset":/        { split($3, a, /[:,]/); offset = a[2] }
    /^\[[0-9]+,[0-9]+,"/  { split(substr($1, 2), a, ","); print layer[a[1]], offset, a[2], $2 }
  ' "$manifest"
}

# Zeros must be written where an older layer may have left data; a hole is better, where it can be had.
zero() {
  fallocate --punch-hole --offset "$1" --length "$2" "$output" 2>/dev/null && return
  dd if=/dev/zero of="$output" bs="$granule" seek=$(($1 / granule)) count=$((($2 + granule - 1) / granule)) \
    conv=notrunc 2>/dev/null
}

# Prints "name start bytes zstd" for each member: where its header is, how long it is packed, 1 if by zstd.
members() {
  unzip -Zv "$1" | awk '
    /^  [0-9a-f]+\.[0-9a-f]+\.(data|zero)$/ { name = $1 }
    /offset of local header from start/     { start = $NF }
    /^ *compression method:/                { zstd = /\(93\)|[Zz]st/ ? 1 : 0 }
    /^ *compressed size:/ && name != ""     { print name, start, $3, zstd; name = "" }
  '
}

# unzip 6 does not know zstd; the frame lies behind a header of 30 bytes and the name.
unpack() {
  if [ "$5" = 1 ]; then
    tail -c +$(($3 + 30 + ${#2} + 1)) "$1" | head -c "$4" | zstd -dcq
  else
    unzip -p "$1" "$2"
  fi
}

parts | while read -r layer offset bytes sha256; do
  part=$volume_dir/$layer/$(printf '%016x.%.32s.zip' "$offset" "$sha256")
  [ -f "$part" ] || fail "the part $part is missing"
  echo "$sha256  $part" | sha256sum --check --status || fail "the part $part is damaged"
  echo "$part ($bytes bytes)"
  members "$part" | while read -r name start packed zstd; do
    [ "$zstd" = 0 ] || command -v zstd >/dev/null ||
      fail "$part is compressed with zstd: install the tool zstd, or run RESTORE.py with Python 3.14 or newer"
    offset=${name%%.*}
    case $name in
      *.data) unpack "$part" "$name" "$start" "$packed" "$zstd" |
                dd of="$output" bs="$granule" seek=$((0x$offset / granule)) iflag=fullblock conv=notrunc 2>/dev/null ;;
      *.zero) length=${name#*.}; zero $((0x$offset)) $((0x${length%.zero})) ;;
    esac
  done
done
# Zeros that dd wrote may reach behind the end of a volume that is no multiple of the granule.
dd if=/dev/null of="$output" bs=1 count=0 seek="$size" 2>/dev/null
echo "$output is complete: $size bytes"
