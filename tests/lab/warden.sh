# Takes a lab away, whatever is left of it: processes first; with the last of them go its namespaces, mounts, wires.
#
#   warden.sh once CGROUP FOLDER    now
#   warden.sh hold CGROUP FOLDER    now, then "ready", then once more when standard input ends: when its owner died
set -u
mode=$1 group=$2 folder=$3
trap '' INT HUP TERM # Ctrl-C at a terminal reaches the whole group; the owner decides
mkdir -p "$(dirname "$folder")"
exec 9>"$folder.lock"
# The owner before may just have died: its warden wakes within a moment, and says so while it sweeps.
tries=0
until flock -n 9; do
  tries=$((tries + 1))
  if [ $tries -gt 300 ] || { [ $tries -gt 20 ] && [ ! -e "$folder.sweeping" ]; }; then
    echo "Cannot take the lab $folder: another process has it up" >&2
    exit 1
  fi
  sleep 0.05
done

sweep() {
  : >"$folder.sweeping"
  if [ -d "$group" ]; then
    echo 1 >"$group/cgroup.kill"
    tries=0
    while grep -q 'populated 1' "$group/cgroup.events"; do
      tries=$((tries + 1))
      # Something waits for a FUSE server that will not answer: cut the connections of this lab's hosts.
      [ $tries != 200 ] || abort_fuse
      [ $tries -lt 6000 ] || { echo "Cannot take the lab $folder away: processes left in $group" >&2; return 1; }
      sleep 0.005
    done
    find "$group" -depth -type d -exec rmdir {} +
  fi
  # Mounts go shortly after the last process; the loop devices with them.
  tries=0
  while losetup -l -n -O BACK-FILE | grep -q "^$folder/"; do
    tries=$((tries + 1))
    [ $tries -lt 6000 ] || { echo "Cannot free the loop devices of $folder" >&2; return 1; }
    sleep 0.005
  done
  rm -rf "$folder" "$folder.sweeping"
}

abort_fuse() {
  find "$group" -name cgroup.procs -exec cat {} + | while read -r pid; do
    awk '/ - fuse/ {split($3, device, ":"); print device[2]}' "/proc/$pid/mountinfo" 2>/dev/null
  done | sort -u >"$folder/fuse.ids"
  control=$folder/fusectl
  mkdir -p "$control" && mount -t fusectl none "$control" || return 0
  while read -r id; do echo 1 >"$control/$id/abort"; done <"$folder/fuse.ids"
  umount -l "$control"
}

sweep || exit 1
[ "$mode" = hold ] || exit 0
echo ready
cat >/dev/null
sweep
