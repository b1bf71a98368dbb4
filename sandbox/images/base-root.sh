#!/bin/sh
# Turns the packages that mmdebstrap unpacked into the root of a container: run by it with the folder as $1, before it packs the result.
# Nothing was configured (variant `extract`), so whatever the packages' own scripts would have made is made here.
set -eu
root=$1

printf 'root:x:0:0:root:/:/bin/sh\nnonroot:x:65532:65532:nonroot:/tmp:/bin/sh\n' >"$root/etc/passwd"
printf 'root:x:0:\nnonroot:x:65532:\n' >"$root/etc/group"
printf 'hosts: files dns\n' >"$root/etc/nsswitch.conf"
: >"$root/etc/hostname"
: >"$root/etc/resolv.conf"
mkdir -p "$root/proc" "$root/sys" "$root/dev" "$root/run" "$root/root"

# A shell and the usual small tools, for `kubectl exec`.
for tool in $(chroot "$root" /usr/bin/busybox --list); do
  [ -e "$root/usr/bin/$tool" ] || [ -e "$root/usr/sbin/$tool" ] || ln -s busybox "$root/usr/bin/$tool"
done
ln -sf python3 "$root/usr/bin/python"

# Package management, foreign character sets, caches and Python's own tests are of no use inside a container.
# (mmdebstrap itself takes apt's folders away afterwards and expects them to be there.)
rm -rf "$root/var/log" "$root/var/lib/dpkg" "$root/etc/dpkg"
rm -rf "$root/usr/lib/apt" "$root/usr/lib/dpkg" "$root/usr/share/dpkg" "$root"/usr/bin/dpkg* "$root"/usr/lib/*/gconv
rm -rf "$root/usr/lib/python3.11/test" "$root/usr/lib/python3.11/pydoc_data" "$root/usr/lib/python3.11/lib2to3"
mkdir -p "$root/var/log"

# Containers run with a read-only root: without byte code made here, every start would compile the standard library anew. Unchecked,
# because layers do not keep the sub-second times that byte code is otherwise checked against.
chroot "$root" /usr/bin/python3 -m compileall -q --invalidation-mode unchecked-hash /usr/lib/python3.11 /usr/lib/python3
