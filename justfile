# The steps of .ci/run by name. `just` alone lists them.

_default:
    @just --list

# Everything that must hold for a commit.
ci: fmt-check test lint deny

# Every test, Python and Rust.
test:
    tests/run.sh

fmt:
    cargo fmt --all

fmt-check:
    cargo fmt --all --check

lint:
    cargo clippy --workspace --all-targets --all-features --locked -- -D warnings

# Licenses, duplicate crates and sources of what we depend on.
deny:
    cargo deny --locked check bans licenses sources

# The example: images in, accuracy out.
digits *arguments:
    examples/digits/run.sh {{ arguments }}

# The benchmark with its yardsticks; takes minutes.
bench *arguments:
    python3 bench/bench.py {{ arguments }}

# The faults of the fleet that take minutes, and the soak (FANFOLD_SOAK_SECONDS, FANFOLD_SOAK_SEED).
fleet-faults:
    cargo test -p fanfold --all-features --locked --test fleet -- --ignored --nocapture
