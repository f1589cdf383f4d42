#!/usr/bin/env bash
# Everything a fresh Debian with Node needs before pointsman can be built, run and tested here.
# Quiet when there is nothing to do. Sourced by the other scripts; needs root to install packages.
set -euo pipefail

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$repository"

if [ -t 2 ]; then arrow=$'\033[1m==>\033[0m'; else arrow='==>'; fi
step() { printf '%s %s\n' "$arrow" "$*" >&2; }
fail() {
	printf 'pointsman: %s\n' "$*" >&2
	exit 1
}

# Runs a command whose output matters only when it fails.
quietly() {
	local log status=0
	log=$(mktemp)
	"$@" >"$log" 2>&1 || status=$?
	if [ "$status" -ne 0 ]; then
		tail -n 40 "$log" >&2
		rm -f "$log"
		return "$status"
	fi
	rm -f "$log"
}

# What is missing to build and to run, as Debian packages: a command or a file each stands for its package.
missing_packages() {
	local tool
	local -A tools=(
		[clang]=clang [wasm-ld]=lld [gcc]=gcc [nft]=nftables [ethtool]=ethtool [ip]=iproute2
		[curl]=curl [tcpdump]=tcpdump [ping]=iputils-ping [nsenter]=util-linux
	)
	for tool in "${!tools[@]}"; do
		command -v "$tool" >/dev/null || echo "${tools[$tool]}"
	done
	[ -e /usr/include/bpf/bpf_helpers.h ] || echo libbpf-dev
	[ -e /usr/include/linux/bpf.h ] || echo linux-libc-dev
	[ -e /usr/include/stdio.h ] || echo libc6-dev
	ldconfig -p | grep -q 'libbpf\.so\.1' || echo libbpf1
}

# What the lab needs to show a registry.
missing_registry_packages() {
	[ -e /usr/bin/etcd ] || echo etcd-server
}

# What only tests use: partners to compare with, and what it takes to make and inspect packages.
missing_test_packages() {
	local tool
	local -A tools=([groff]=groff-base [lintian]=lintian [systemd-analyze]=systemd [promtool]=prometheus [tmux]=tmux [tshark]=tshark)
	for tool in "${!tools[@]}"; do
		command -v "$tool" >/dev/null || echo "${tools[$tool]}"
	done
	[ -e /usr/sbin/ipvsadm ] || echo ipvsadm
	[ -e /usr/sbin/keepalived ] || echo keepalived
	[ -e /usr/sbin/ldirectord ] || echo ldirectord
	missing_registry_packages
	[ -e /usr/share/java/zookeeper.jar ] || echo zookeeper
	[ -e /usr/sbin/named ] || echo bind9
	command -v openssl >/dev/null || echo openssl
	# The sanitizers' runtime, for the native build of the packet program.
	compgen -G '/usr/lib/llvm-*/lib/clang/*/lib/linux/libclang_rt.asan-*.a' >/dev/null || echo libclang-rt-dev
	missing_cross_packages
	compgen -G '/usr/bin/qemu-*-static' >/dev/null || echo qemu-user-static
}

# The C library of the other machine we serve, for its static ipvsadm.
missing_cross_packages() {
	local machine debian
	case $(uname -m) in
	x86_64) machine=aarch64 debian=arm64 ;;
	aarch64) machine=x86_64 debian=amd64 ;;
	*) return 0 ;;
	esac
	[ -e "/usr/$machine-linux-gnu/lib/libc.a" ] || echo "libc6-dev-$debian-cross"
	compgen -G "/usr/lib/gcc-cross/$machine-linux-gnu/*/libgcc.a" >/dev/null ||
		echo "libgcc-$(gcc -dumpversion 2>/dev/null || echo 12)-dev-$debian-cross"
}

# install_packages LIST: installs what the function LIST names.
install_packages() {
	local packages
	mapfile -t packages < <("$1" | sort -u)
	[ "${#packages[@]}" -eq 0 ] && return 0
	step "installing Debian packages: ${packages[*]}"
	[ "$(id -u)" -eq 0 ] || fail "cannot install ${packages[*]}: run this as root, or install them yourself"
	command -v apt-get >/dev/null || fail "cannot install ${packages[*]}: no apt-get here, install their equivalents"
	export DEBIAN_FRONTEND=noninteractive
	# The lists on the machine are usually good enough; fetch them only if they are not.
	quietly apt-get install -y --no-install-recommends "${packages[@]}" && return 0
	step "refreshing the package lists"
	quietly apt-get update || fail "apt-get update failed (see above)"
	quietly apt-get install -y --no-install-recommends "${packages[@]}" ||
		fail "apt-get could not install ${packages[*]} (see above)"
}

install_modules() {
	command -v node >/dev/null || fail "Node.js is missing: version 20 or later is needed"
	local major
	major=$(node -p 'process.versions.node.split(".")[0]')
	[ "$major" -ge 20 ] || fail "Node.js $(node -v) is too old: version 20 or later is needed"
	# npm leaves this file behind as its note of what it has installed.
	[ node_modules/.package-lock.json -nt package-lock.json ] && return 0
	step "installing npm packages"
	quietly npm ci --no-audit --no-fund || fail "npm ci failed (see above)"
	touch node_modules/.package-lock.json
}

setup() {
	install_packages missing_packages
	install_modules
	step "building"
	quietly npm run --silent build || fail "the build failed (see above)"
}
