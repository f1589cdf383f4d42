#!/usr/bin/env bash
# Provisions a virtual machine of the Vagrantfile: provision.sh HOST, as root, inside the machine.
set -euo pipefail

host=$1
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if ! command -v node >/dev/null; then
	export DEBIAN_FRONTEND=noninteractive
	apt-get update -qq
	apt-get install -qq -y --no-install-recommends nodejs npm >/dev/null
fi
. scripts/setup.sh
setup
exec node --import tsx lab/provision.ts "$host"
