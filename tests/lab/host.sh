# The first process of a host, started by unshare(1) in namespaces of its own; ends as tini.
# Environment: NAME, HOST (the host's folder outside), TESTS, SHARED, BINARY (or empty), STORE (image or empty), DISK (the
# program of a volatile disk to lie over the image, or empty), LAN, REPL (address/prefix or empty), HOSTS (lines for
# /etc/hosts).
set -eu
# -n everywhere: the table in /run/mount is the machine's, not the host's.
# The old /proc is still there: it knows this process by its number outside.
read -r pid _ </proc/self/stat
echo "$pid" >"$HOST/pid.new"
mv "$HOST/pid.new" "$HOST/pid"

mount -n --make-rprivate /
# What others mounted on this machine is none of ours: a copy here would keep it alive after they unmounted it.
awk '$0 ~ / - (fuse[^ ]*|nsfs) / || $0 ~ / - [^ ]+ \/dev\/loop/ {print $5}' /proc/self/mountinfo | sort -r |
  while read -r foreign; do umount -l -c "$(printf '%b' "$foreign")" || true; done
# The machine's own are taken off, not covered: a program that looks for cgroup2 in the mount table finds ours alone.
umount -l /sys
umount -l /proc
mount -n -t proc proc /proc
mount -n -t sysfs sysfs /sys
mount -n -t cgroup2 none /sys/fs/cgroup
mount -n -t fusectl none /sys/fs/fuse/connections

# /run is a new tmpfs at each boot. It is filled beside, then moved, so that nothing it needs from outside is covered.
run=$HOST/run
mount -n -t tmpfs -o mode=755 tmpfs "$run"
mkdir -p "$run/lock" "$run/lab/disk" "$run/lab/tests" "$run/lab/shared" "$run/lab/local.u/bin" "$run/lab/local.w"
mount -n --bind "$TESTS" "$run/lab/tests"
mount -n --bind "$SHARED" "$run/lab/shared"
disk=$run/lab/memory
if [ -n "$STORE" ]; then
  disk=$run/lab/disk
  if [ -n "$DISK" ]; then
    : >>"$HOST/store.disk"
    "$DISK" "$STORE" "$HOST/store.disk" "$HOST/disk.log" >"$run/lab/disk.pid"
    STORE=$HOST/store.disk
  fi
  # The inode tables of the image stay unwritten until used: no background writing in a test.
  case $(blkid -o value -s TYPE "$STORE") in
  ext4) mount -n -o loop,noinit_itable "$STORE" "$disk" ;;
  *) mount -n -o loop "$STORE" "$disk" ;;
  esac
fi
mkdir -p "$disk/srv" "$disk/binome" "$disk/log" "$disk/etc.u" "$disk/etc.w" "$disk/lib.u" "$disk/lib.w"
mount -n -t overlay -o "lowerdir=/etc,upperdir=$disk/etc.u,workdir=$disk/etc.w" etc /etc
mount -n -t overlay -o "lowerdir=/var/lib,upperdir=$disk/lib.u,workdir=$disk/lib.w" lib /var/lib
mkdir -p /var/lib/binome
mount -n --bind "$disk/binome" /var/lib/binome
mount -n --bind "$disk/log" /var/log
mount -n --bind "$disk/srv" /srv
mount -n -t overlay -o "lowerdir=/usr/local,upperdir=$run/lab/local.u,workdir=$run/lab/local.w" local /usr/local
if [ -n "$BINARY" ]; then
  : >/usr/local/bin/binome
  mount -n --bind "$BINARY" /usr/local/bin/binome
fi
umount -l /run 2>/dev/null || true
mount -n --move "$run" /run
mount -n -t tmpfs -o mode=1777 tmpfs /tmp
while umount -l /dev/shm 2>/dev/null; do :; done
mount -n -t tmpfs -o mode=1777 tmpfs /dev/shm

hostname "$NAME"
echo "$NAME" >/etc/hostname
printf '127.0.0.1 localhost\n%s\n' "$HOSTS" >/etc/hosts

# The lab plugs the wires in as soon as it knows our number.
wire() { # INTERFACE ADDRESS
  tries=0
  until [ -e "/sys/class/net/$1" ]; do
    tries=$((tries + 1))
    [ $tries -lt 3000 ] || { echo "Cannot boot $NAME: no interface $1 after 30 s" >&2; exit 1; }
    sleep 0.01
  done
  ip addr add "$2" brd + dev "$1"
  ip link set "$1" up
}
ip link set lo up
[ -z "$LAN" ] || wire e0 "$LAN"
[ -z "$REPL" ] || wire e1 "$REPL"

# What a unit enabled in systemd would do.
if [ -e /var/lib/binome-enabled ]; then sh /run/lab/tests/supervise.sh start; fi
exec tini -- sleep infinity
