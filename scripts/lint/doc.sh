#!/bin/sh
# Every lib/**/mod.ts must document what it exports. `deno doc --lint` takes files, not patterns.
set -eu
cd "$(dirname "$0")/../.."
files=$(find lib -name mod.ts | sort)
[ -n "$files" ] || exit 0
# shellcheck disable=SC2086  # one argument a file; no path of lib holds a space
exec deno doc --lint --quiet $files
