#!/usr/bin/env bash
# npm run acceptance: the Debian package under a real systemd, in an emulated machine. See test/acceptance/.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

missing_acceptance_packages() {
	local tool
	local -A tools=([qemu-system-x86_64]=qemu-system-x86 [mmdebstrap]=mmdebstrap [cpio]=cpio [mke2fs]=e2fsprogs)
	for tool in "${!tools[@]}"; do
		command -v "$tool" >/dev/null || echo "${tools[$tool]}"
	done
	missing_cross_packages
}

[ "$(id -u)" -eq 0 ] || fail "the acceptance needs root: it lays out a file system"
[ "$(uname -m)" = x86_64 ] || fail "the acceptance is for x86-64: its machine has a kernel for that"
setup
install_packages missing_acceptance_packages
quietly npm run --silent build -- --every-machine
exec node --import tsx test/acceptance/main.ts "$@"
