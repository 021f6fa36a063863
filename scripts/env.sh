# shellcheck shell=sh
# Sourced by the other scripts, which set `root` (the project's folder) first. Gives three functions:
#
#   binome_deno       the pinned Deno first in PATH, installed into a cache folder when it is not there
#   binome_packages   the Debian packages of the lab, installed when run as root with apt
#   binome_lab_ready  stops, with the whole list, where something the lab needs is missing
#
# Each step that changes something says so in one line.

BINOME_DENO_VERSION=2.7.11
BINOME_CACHE=${BINOME_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/binome}
# Deno's own list of authorities, and the system's: an npm mirror of the house may be signed by the house.
DENO_TLS_CA_STORE=${DENO_TLS_CA_STORE:-system,mozilla}
DENO_NO_UPDATE_CHECK=1
export BINOME_CACHE DENO_TLS_CA_STORE DENO_NO_UPDATE_CHECK

binome_say() { printf 'binome: %s\n' "$*" >&2; }
binome_fail() {
  binome_say "$*"
  exit 1
}

binome_deno_is() { # PATH: whether this is the pinned version
  [ -x "$1" ] && [ "$("$1" --version 2>/dev/null | awk 'NR==1{print $2}')" = "$BINOME_DENO_VERSION" ]
}

binome_deno() {
  for candidate in "$BINOME_CACHE"/node_modules/@deno/linux-*/deno "$(command -v deno || true)"; do
    if binome_deno_is "$candidate"; then
      PATH=$(dirname "$candidate"):$PATH
      export PATH
      return 0
    fi
  done
  command -v npm >/dev/null || binome_fail "Cannot install Deno $BINOME_DENO_VERSION: npm is missing; install Node.js with npm"
  binome_say "installing Deno $BINOME_DENO_VERSION into $BINOME_CACHE"
  mkdir -p "$BINOME_CACHE"
  # Two scripts at once: the second waits, then finds it installed.
  (
    flock -w 300 9 || binome_fail "Cannot install Deno: another install holds $BINOME_CACHE/lock for 5 minutes"
    npm install --prefix "$BINOME_CACHE" --no-save --no-audit --no-fund --loglevel=error \
      "deno@$BINOME_DENO_VERSION" >&2
  ) 9>"$BINOME_CACHE/lock" || binome_fail "Cannot install Deno $BINOME_DENO_VERSION: npm failed, see above"
  for candidate in "$BINOME_CACHE"/node_modules/@deno/linux-*/deno; do
    binome_deno_is "$candidate" || continue
    PATH=$(dirname "$candidate"):$PATH
    export PATH
    return 0
  done
  binome_fail "Cannot use Deno $BINOME_DENO_VERSION: npm installed it, but it does not run here (glibc on x64 or arm64 is needed)"
}

# fuse3 brings fusermount3; xfsprogs has xfs_io, which shuts a file system down; arping asks who owns an address; systemd has
# systemd-analyze, which reads our units.
BINOME_PACKAGES="iproute2 nftables iputils-ping iputils-arping procps util-linux e2fsprogs xfsprogs fuse3 tini
  attr acl bindfs fio gcc libc6-dev curl python3 openssl systemd postgresql postgresql-client"

binome_missing_packages() {
  for package in $BINOME_PACKAGES; do
    case $(dpkg-query -W -f '${Status}' "$package" 2>/dev/null) in
    *" ok installed") ;; # also one that is on hold
    *) printf '%s ' "$package" ;;
    esac
  done
}

# In a subshell, so that the policy goes away again however the install ends.
binome_install_packages() (
  policy=/usr/sbin/policy-rc.d
  if [ ! -e $policy ]; then
    trap 'rm -f $policy' EXIT
    trap 'exit 1' INT TERM
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod 755 $policy
  fi
  export DEBIAN_FRONTEND=noninteractive
  apt-get -q -y -o DPkg::Lock::Timeout=300 update
  # shellcheck disable=SC2086  # one argument a package
  apt-get -q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends $missing
)

binome_packages() {
  command -v dpkg-query >/dev/null || return 0 # not Debian: binome_lab_ready names what is missing
  missing=$(binome_missing_packages)
  [ -n "$missing" ] || return 0
  [ "$(id -u)" = 0 ] || binome_fail "Cannot install $missing: run as root, or apt-get install $missing"
  binome_say "installing Debian packages: $missing(nothing of them is started)"
  clusters=$(ls -d /etc/postgresql/*/main 2>/dev/null || true)
  log=$(mktemp)
  status=0
  binome_install_packages >"$log" 2>&1 || status=$?
  # The package makes a cluster of its own on first install and would start it at the next boot.
  for cluster in /etc/postgresql/*/main; do
    case "
$clusters
" in *"
$cluster
"*) continue ;; esac
    [ -e "$cluster/start.conf" ] || continue
    binome_say "the new PostgreSQL cluster in $cluster is set to manual start"
    echo manual >"$cluster/start.conf"
  done
  [ $status = 0 ] || tail -n 20 "$log" >&2
  rm -f "$log"
  [ $status = 0 ] || binome_fail "Cannot install Debian packages: apt-get ended with $status, its last words are above"
}

# The version-2 hierarchy is /sys/fs/cgroup itself, or beside the version-1 controllers.
binome_cgroup2() { awk '$3 == "cgroup2" {print $2; exit}' /proc/mounts; }

binome_lab_ready() {
  lacking=
  lacks() { lacking="$lacking
  - $*"; }
  if [ "$(id -u)" != 0 ]; then lacks "root: the lab makes namespaces, mounts and loop devices"; fi
  for tool in ip nft ping arping tini xfs_io mkfs.ext4 nsenter unshare losetup setpriv flock python3; do
    command -v $tool >/dev/null || lacks "the command $tool"
  done
  for device in /dev/fuse /dev/loop-control; do
    [ -c $device ] || lacks "$device (a container needs it passed through)"
  done
  hierarchy=$(binome_cgroup2)
  if [ -z "$hierarchy" ]; then
    lacks "a cgroup version 2 hierarchy (mount -t cgroup2 none /sys/fs/cgroup/unified)"
  elif [ ! -w "$hierarchy/cgroup.procs" ]; then
    lacks "write access to $hierarchy (the container's cgroup mount is read-only)"
  fi
  unshare --net --mount --pid --uts --ipc --cgroup --fork true 2>/dev/null ||
    lacks "namespaces: unshare --net --mount --pid --uts --ipc --cgroup is refused"
  [ -z "$lacking" ] || binome_fail "Cannot run the lab here; missing:$lacking"
}
