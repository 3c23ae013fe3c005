#!/bin/bash
# Builds the base image of sandboxes: a Debian bookworm root file system with a
# compiler, git, curl, Python and Node.
#
#   image.sh STATE/images/base
#
# Does nothing when the image is there already, but say if another version of
# this script made it. The packages come from the
# machine's own apt sources; the tree is made beside its place and moved there
# when complete, so that an interrupted build leaves no half image. Files keep
# the owners of the image (0 for root): the launcher maps them at mount.
set -euo pipefail
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C
umask 022

packages=gcc,libc6-dev,make,git,curl,ca-certificates,python3,nodejs,procps
packages+=,diffutils,patch,less,xz-utils,iproute2,p11-kit-modules

say() {
    echo "image: $*"
}

if [ $# -ne 1 ]; then
    echo "usage: image.sh DIRECTORY" >&2
    exit 2
fi
target=${1%/}
recipe=$(sha256sum "$0" | cut -d' ' -f1)
if [ -e "$target/.brainbox-image" ]; then
    say "$target is there already"
    [ "$recipe" = "$(cat "$target/.brainbox-image")" ] ||
        say "it was made by another version: move it away to have it made anew"
    exit 0
fi
if [ "$(id -u)" -ne 0 ]; then
    echo "image.sh: must run as root to own the files of the image" >&2
    exit 1
fi
if [ -e "$target" ]; then
    echo "image.sh: $target exists and is no image; move it away" >&2
    exit 1
fi

mkdir -p "$(dirname "$target")"
# One build at a time; whoever comes second finds the image made.
exec 9>"$target.lock"
flock 9
if [ -e "$target/.brainbox-image" ]; then
    say "$target was made meanwhile"
    exit 0
fi
rm -rf "$target".tmp.*
work=$(mktemp -d "$target.tmp.XXXXXX")
chmod 755 "$work"
trap 'rm -rf "$work"' EXIT

# The machine's sources, as far as they are Debian's bookworm.
sources=()
for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list \
            /etc/apt/sources.list.d/*.sources; do
    [ -s "$file" ] || continue
    if grep -qE '(^deb .*|^Suites:.*)bookworm( |$|-| main)' "$file" &&
       grep -qi debian "$file" && ! grep -qiE 'pgdg|cloud-sdk' "$file"; then
        sources+=("$file")
    fi
done
if [ ${#sources[@]} -eq 0 ]; then
    echo "image.sh: no source of Debian bookworm in /etc/apt: add one" >&2
    exit 1
fi
say "sources: ${sources[*]}"

# A proxy or mirror setting of the machine's apt holds for the image too.
opts=()
while IFS= read -r line; do
    opts+=("--aptopt=$line")
done < <(apt-config dump | grep -iE '^Acquire::(https?|ftp)::.*Proxy' || true)

say "building $target (about a minute)"
mmdebstrap --mode=root --variant=minbase --format=directory \
    --include="$packages" \
    --aptopt='Acquire::Languages "none"' \
    --aptopt='Apt::Install-Recommends "false"' \
    --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-include=/usr/share/doc/*/copyright' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    "${opts[@]}" bookworm "$work/root" "${sources[@]}" </dev/null

say "preparing"
root=$work/root
# Names are answered on the sandbox's own loopback, by the bridge.
rm -f "$root/etc/resolv.conf"
echo "nameserver 127.0.0.1" > "$root/etc/resolv.conf"
printf '127.0.0.1 localhost sandbox\n::1 localhost\n' > "$root/etc/hosts"
echo sandbox > "$root/etc/hostname"
sed -i 's/^hosts:.*/hosts: files dns/' "$root/etc/nsswitch.conf"
# NSS has its roots in a module. This one reads the bundle instead, also for
# what is installed later.
lib=usr/lib/$(uname -m)-linux-gnu
dpkg-divert --root "$root" --local --no-rename --quiet \
    --divert "/$lib/libnssckbi.so.nss" --add "/$lib/libnssckbi.so"
ln -s pkcs11/p11-kit-trust.so "$root/$lib/libnssckbi.so"
# Where the launcher mounts.
mkdir -p "$root"/{dev,proc,sys,workspace}
rm -rf "${root:?}"/dev/* "$root"/var/cache/apt/archives/*.deb
rm -f "$root"/etc/apt/apt.conf.d/99mmdebstrap
git_defaults=$root/etc/gitconfig
printf '[safe]\n\tdirectory = *\n[init]\n\tdefaultBranch = main\n' \
    > "$git_defaults"
echo "$recipe" > "$root/.brainbox-image"
chmod 755 "$root"
sync -f "$root" || true
mv -T "$root" "$target"
say "$target is ready: $(du -sh "$target" | cut -f1)"
