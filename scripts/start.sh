#!/usr/bin/env bash
# npm start: set everything up, run the lab, show traffic through every forwarding method.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

[ "$(id -u)" -eq 0 ] || fail "the lab needs root: network namespaces, BPF and raw sockets"
case " $* " in *" --registry"[\ =]*) install_packages missing_registry_packages ;; esac
setup
exec node --import tsx lab/main.ts "$@"
