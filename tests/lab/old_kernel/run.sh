#!/bin/sh
# Kills replicators and a keeper under an application on Debian's own kernel (6.1), which does not send requests again.
#
#   tests/lab/old_kernel/run.sh [--here] [KILLS]
#
# The kernel runs in a QEMU guest without KVM, on this machine's files (read-only, changes stay in the guest's memory). It is slow, ten
# minutes and more: no agents are in it, whose time limits it would not keep; both nodes are keepers and replicators
# driven by their sockets (nodes.py). --here runs the same on this machine's kernel, with BINOME_RESEND=off, in seconds.
# Needs root, dist/binome, gcc; installs qemu-system-x86, busybox-static, cpio and kmod, and fetches the kernel, by apt.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
where=guest
if [ "${1:-}" = --here ]; then
  where=here
  shift
fi
kills=${1:-5}
[ -x "$root/dist/binome" ] || { echo "Cannot run: dist/binome is missing; run scripts/compile" >&2; exit 1; }
work=$(mktemp -d /var/tmp/binome-old-kernel.XXXXXX)
trap 'rm -rf --one-file-system "$work"' EXIT
cp "$root/dist/binome" "$here/nodes.py" "$work"
gcc -O2 -pthread -static -o "$work/writer" "$here/../writer.c"

if [ $where = here ]; then
  BINOME_RESEND=off unshare -m -p --fork --kill-child --mount-proc --propagation private sh -euc '
    mount -t tmpfs srv /srv; mkdir "$1/w"; mount -t tmpfs w "$1/w"
    python3 "$1/nodes.py" "$1/binome" "$1/writer" "$2" "$1/w"' sh "$work" "$kills"
  exit
fi

DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120 install -y --no-install-recommends \
  qemu-system-x86 qemu-system-common busybox-static cpio kmod >"$work/apt.log" 2>&1 ||
  { cat "$work/apt.log" >&2; exit 1; }
package=$(apt-cache depends linux-image-cloud-amd64 | awk '/Depends: linux-image-/ {print $2; exit}')
(cd "$work" && apt-get download -q "$package" && dpkg -x ./"$package"_*.deb kernel) >"$work/apt.log" 2>&1 ||
  { cat "$work/apt.log" >&2; exit 1; }
version=$(ls "$work/kernel/lib/modules")
depmod -b "$work/kernel" "$version"

# The first files: busybox, and the modules that reach the others.
first=$work/first
mkdir -p "$first/bin" "$first/dev" "$first/proc" "$first/sys" "$first/ro" "$first/rw" "$first/root" "$first/lib"
cp /bin/busybox "$first/bin/"
for module in virtio_pci virtiofs overlay fuse loop ext4 crc32c_generic; do
  modprobe -d "$work/kernel" -S "$version" --show-depends $module 2>/dev/null || true
done | awk '/^insmod/ && !seen[$2]++ {print $2}' | while read -r file; do
  cp "$file" "$first/lib/"
  basename "$file" >>"$first/lib/order"
done
cat >"$first/init" <<INIT
#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
for module in \$(cat /lib/order); do insmod /lib/\$module; done
mount -t virtiofs -o ro files /ro
mount -t tmpfs -o size=3g rw /rw; mkdir /rw/upper /rw/work
mount -t overlay -o lowerdir=/ro,upperdir=/rw/upper,workdir=/rw/work all /root
for name in proc sys dev; do mount --move /\$name /root/\$name; done
mount -t tmpfs run /root/run; mount -t tmpfs srv /root/srv
ip link set lo up
exec chroot /root /bin/sh $work/guest.sh
INIT
chmod +x "$first/init"
(cd "$first" && find . | cpio -o -H newc --quiet | gzip -1) >"$work/initrd.gz"
cat >"$work/guest.sh" <<GUEST
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
uname -srv
cp $work/binome $work/writer /run/
mkdir /run/w; mount -t tmpfs -o size=2g w /run/w
python3 $work/nodes.py /run/binome /run/writer $kills /run/w
sync; echo o >/proc/sysrq-trigger; sleep 60
GUEST

# virtiofsd wants a folder that is no mount of its own to start from; in a mount namespace of its own nobody sees it.
mkdir "$work/files"
unshare -m --propagation private sh -euc '
  mount --bind / "$1/files"
  server=$(command -v virtiofsd || ls /usr/lib/qemu/virtiofsd /usr/libexec/virtiofsd 2>/dev/null | head -n 1)
  "$server" --socket-path="$1/files.sock" -o source="$1/files" -o sandbox=chroot -o cache=always -o xattr >"$1/virtiofsd.log" 2>&1 &
  tries=0
  until [ -S "$1/files.sock" ]; do
    tries=$((tries + 1))
    [ $tries -lt 100 ] || { cat "$1/virtiofsd.log" >&2; exit 1; }
    sleep 0.1
  done
  exec timeout 3000 qemu-system-x86_64 -accel tcg,thread=multi -cpu max -smp 2 -m 6144 \
    -object memory-backend-memfd,id=memory,size=6144M,share=on -numa node,memdev=memory \
    -nodefaults -display none -no-reboot -kernel "$1"/kernel/boot/vmlinuz-* -initrd "$1/initrd.gz" \
    -append "console=ttyS0 quiet panic=-1" -chardev socket,id=files,path="$1/files.sock" \
    -device vhost-user-fs-pci,chardev=files,tag=files -serial stdio' sh "$work" </dev/null | tee "$work/serial.log"
tail -n 5 "$work/serial.log" | grep -q "[0-9] PASSED"
