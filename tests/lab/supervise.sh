# Stands in for systemd inside a host: keeps `binome keeper` and `binome agent` running.
#
#   supervise.sh start|stop|shutdown
#
# start     both, restarted 50 ms after a death; at each boot from now on
# stop      SIGTERM to the agent, then to the keeper; not at the next boot
# shutdown  what a halt of the machine does: `binome halt`, then the same as stop; they start again at the next boot
set -u
home=/run/lab/supervise
mkdir -p $home /var/log/binome
# What `Environment=` of the units would say.
if [ -e /etc/binome/environment ]; then
  set -a
  . /etc/binome/environment
  set +a
fi

role() { # NAME: the loop of one role
  trap 'exit 0' TERM
  while [ ! -e $home/stopping ]; do
    # In a session of its own, as systemd does.
    setsid binome "$1" >>"/var/log/binome/$1.log" 2>&1 &
    echo $! >"$home/$1.new"
    mv "$home/$1.new" "$home/$1.pid"
    wait $!
    status=$?
    echo "$(date +%T.%3N) binome $1 ended with status $status" >>/var/log/binome/supervise.log
    sleep 0.05
  done
}

end() { # NAME SECONDS: SIGTERM, then SIGKILL
  pid=$(cat "$home/$1.pid" 2>/dev/null) || return 0
  kill -TERM "$pid" 2>/dev/null || return 0
  tries=0
  while kill -0 "$pid" 2>/dev/null; do
    tries=$((tries + 1))
    if [ $tries -gt $(($2 * 50)) ]; then
      echo "$(date +%T.%3N) binome $1 did not end in $2 s: killed" >>/var/log/binome/supervise.log
      kill -KILL "$pid" 2>/dev/null
      return 1
    fi
    sleep 0.02
  done
}

case ${1:-} in
start)
  rm -f $home/stopping
  : >/var/lib/binome-enabled
  sync -f /var/lib/binome-enabled
  for name in keeper agent; do
    setsid sh "$0" role $name </dev/null >/dev/null 2>&1 &
  done
  ;;
role) role "$2" ;;
stop | shutdown)
  : >$home/stopping
  [ "$1" = shutdown ] || rm -f /var/lib/binome-enabled
  status=0
  # What config/systemd/binome-halt.service does.
  [ "$1" = stop ] || binome halt --wait 60 >>/var/log/binome/supervise.log 2>&1 || status=1
  end agent 60 || status=1
  # What ExecStopPost of config/systemd/binome-agent.service does.
  binome agent --end >>/var/log/binome/agent.log 2>&1 || status=1
  end keeper 20 || status=1
  exit $status
  ;;
*)
  sed -n '2,9p' "$0" >&2
  exit 2
  ;;
esac
