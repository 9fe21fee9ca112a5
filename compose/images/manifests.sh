#!/bin/sh
# What cargo needs to build the dependencies and nothing else: each manifest, with a stand-in for its crate: manifests.sh DIRECTORY
set -eu
find . -name Cargo.toml -not -path './target/*' | while read -r manifest; do
    crate=$1/$(dirname "$manifest")
    mkdir -p "$crate/src"
    # Tests are not built here: a new one is no reason to build the dependencies again.
    awk '/^\[/ { skip = /^\[\[(test|bench|example)\]\]/ } !skip' "$manifest" >"$crate/Cargo.toml"
    : >"$crate/src/lib.rs"
    echo 'fn main() {}' >"$crate/src/main.rs"
done
rm -r "$1/src" # the workspace itself is no crate
cp Cargo.lock "$1/"
