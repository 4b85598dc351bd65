# What is published, and what it depends on.

published=(tidegate tidegate-framing tidegate-service tidegate-streams tidegate-testkit tidegate-tls)

# In a new folder each time: with the same version cargo takes what it unpacked and built of these
# packages before, and does not see that they have changed.
packages() {
    local code name sources=${CARGO_HOME:-$HOME/.cargo}/registry/src
    bounded 1200 cargo package --allow-dirty "${published[@]/#/--package=}" \
        --target-dir "$scratch/packages"
    code=$?
    for name in "${published[@]}"; do
        rm -rf "$sources"/-*/"$name"-[0-9]*
    done
    find "$sources" -maxdepth 1 -name "-*" -empty -delete
    return "$code"
}

# Builds what a user gets: the README's echo server, which is spoken to, and the examples in the
# README of each crate, in a crate outside of this repository.
packaged_crates() {
    local outside=$scratch/outside socket=$scratch/outside.sock file name
    bounded 300 cargo package --allow-dirty --no-verify "${published[@]/#/--package=}" \
        --target-dir "$scratch" || return 1
    mkdir -p "$outside/src" || return 1
    printf '[package]\nname = "outside"\nedition = "2024"\n' >"$outside/Cargo.toml"
    for file in "$scratch"/package/*.crate; do
        tar -xzf "$file" -C "$scratch" || return 1
        file=$scratch/$(basename "$file" .crate)
        ls "$file"/{LICENSE-MIT,LICENSE-APACHE,README.md} || return 1
        name=$(sed -n 's/^name = "\(tidegate[^"]*\)"$/\1/p' "$file/Cargo.toml" | head -n 1)
        printf '[dependencies.%s]\nversion = "*"\n[patch.crates-io.%s]\npath = "%s"\n' \
            "$name" "$name" "$file" >>"$outside/Cargo.toml"
        echo "#![doc = include_str!(\"$file/README.md\")]" >>"$outside/src/lib.rs"
    done
    echo_server_of_readme | sed "s|127.0.0.1:8888|unix:$socket|" >"$outside/src/main.rs"
    grep -q "unix:$socket" "$outside/src/main.rs" || return 1
    local where=(--manifest-path "$outside/Cargo.toml" --target-dir "$target/outside")
    bounded 900 cargo build "${where[@]}" && bounded 900 cargo test --doc "${where[@]}" || return 1
    bounded 120 "$target/outside/debug/outside" &
    servers+=($!)
    listens "$socket" && bounded 60 python3 .ci/peers/echo.py "unix:$socket"
}

# The first program in README.md that makes a server.
echo_server_of_readme() {
    awk '/^```rust/ { text = ""; inside = 1; next }
        /^```/ && inside { inside = 0; if (text ~ /create_server/) { printf "%s", text; exit } }
        inside { text = text $0 "\n" }' README.md
}

# listens SOCKET: within 30 s.
listens() {
    local tries
    for ((tries = 0; tries < 300; tries++)); do
        python3 -c 'import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])' "$1" \
            2>"$scratch/refused" && return 0
        sleep 0.1
    done
    cat "$scratch/refused"
    return 1
}

# With the oldest versions that the manifests allow, in a copy that has only what is published. The
# resolver's option is not stable yet.
minimal_versions() {
    local copy=$scratch/minimal
    mkdir -p "$copy/crates" && cp Cargo.toml "$copy" &&
        cp -rL "${published[@]/#/crates/}" "$copy/crates" &&
        sed -i 's|^members = .*|members = ["crates/*"]|' "$copy/Cargo.toml" || return 1
    RUSTC_BOOTSTRAP=1 bounded 300 cargo update -Zdirect-minimal-versions \
        --manifest-path "$copy/Cargo.toml" || return 1
    # Without aws-lc-rs: rustls depends on it, so its versions are not ours, and it takes a minute.
    local check=(bounded 900 cargo check --locked --manifest-path "$copy/Cargo.toml"
        --target-dir "$target/minimal")
    "${check[@]}" --workspace --no-default-features &&
        "${check[@]}" --workspace --exclude tidegate-tls --all-features &&
        "${check[@]}" -p tidegate-tls --features native-roots,streams
}

deny() {
    bounded 300 "$target/ci/bin/cargo-deny" --all-features check licenses bans sources
}

advisories() {
    if ! bounded 60 "$target/ci/bin/cargo-deny" fetch db; then
        echo "the database of advisories cannot be fetched"
        return "$not_here"
    fi
    bounded 300 "$target/ci/bin/cargo-deny" --all-features check advisories
}

# Against the last release, which is the last tag of the form v1.2.3.
semver() {
    local last crate
    last=$(git describe --tags --abbrev=0 --match 'v[0-9]*.[0-9]*.[0-9]*' 2>"$scratch/describe")
    if [ -z "$last" ]; then
        echo "there is no release to compare with: no tag v1.2.3"
        return "$not_here"
    fi
    cargo_program cargo-semver-checks 0.51.0 || return 1
    for crate in "${published[@]}"; do
        bounded 1200 "$target/ci/bin/cargo-semver-checks" semver-checks \
            -p "$crate" --baseline-rev "$last" || return 1
    done
}

step packages "" "cargo package" packages
step packaged-crates "python" "a crate outside builds the README's server" packaged_crates
step minimal-versions "" "the oldest versions of dependencies" minimal_versions
step deny "cargo_deny" "licences, duplicates and sources of dependencies" deny
step advisories "cargo_deny" "known faults of dependencies" advisories
step semver "" "the public API, against the last release" semver
