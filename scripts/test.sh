#!/usr/bin/env bash
# npm test: set everything up, run all tests. Words after -- choose test files by part of their path.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

setup
install_packages missing_test_packages
exec node --import tsx test/run.ts "$@"
