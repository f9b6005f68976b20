#!/usr/bin/env bash
# Counts the instructions of the hot paths and compares them with instructions.toml.
#
#   benches/micro/check.sh             fails when a count grew by more than 3 %
#   benches/micro/check.sh --accept    makes the new counts the baseline
#
# Needs valgrind and a processor with AVX2. The build is always for x86-64-v3, whatever flags the
# caller has set: another instruction set gives other counts. Exit status: 0 nothing grew, 1
# something did, 2 the counts could not be compared.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
command -v valgrind > /dev/null || { echo "check: valgrind is missing: apt-get install valgrind" >&2; exit 2; }
grep -qw avx2 /proc/cpuinfo || { echo "check: this processor has no AVX2" >&2; exit 2; }

# A directory of its own, so that other builds keep theirs.
target=${CARGO_TARGET_DIR:-$here/target}/instructions
CARGO_ENCODED_RUSTFLAGS=-Ctarget-cpu=x86-64-v3 \
  cargo build -q --release --locked --manifest-path "$here/Cargo.toml" --bin instructions \
  --target-dir "$target"
exec "$target/release/instructions" "$@"
