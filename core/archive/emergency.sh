#!/bin/sh
# Restores a snapshot from a Bollard archive with sh, awk, sed, unzip, sha256sum and dd, nothing else.
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

parts | while read -r layer offset bytes sha256; do
  part=$volume_dir/$layer/$(printf '%016x.%.32s.zip' "$offset" "$sha256")
  [ -f "$part" ] || fail "the part $part is missing"
  echo "$sha256  $part" | sha256sum --check --status || fail "the part $part is damaged"
  echo "$part ($bytes bytes)"
  unzip -Z1 "$part" | while IFS=. read -r offset length kind; do
    case $kind in
      data) unzip -p "$part" "$offset.$length.$kind" |
              dd of="$output" bs="$granule" seek=$((0x$offset / granule)) iflag=fullblock conv=notrunc 2>/dev/null ;;
      zero) zero $((0x$offset)) $((0x$length)) ;;
    esac
  done
done
# Zeros that dd wrote may reach behind the end of a volume that is no multiple of the granule.
dd if=/dev/null of="$output" bs=1 count=0 seek="$size" 2>/dev/null
echo "$output is complete: $size bytes"
