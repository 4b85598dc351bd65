# All tests that need no other programs.

readme_commands() {
    grep -qx "cargo run --example hello" README.md &&
        grep -qx "cargo test --workspace" README.md &&
        bounded 2400 cargo test --workspace
}

# Other code than what is tested elsewhere, so in a folder of its own; built first, because the
# limit is that of the models.
models_of_threads() {
    local -x RUSTFLAGS="--cfg loom -D warnings"
    local quick='profile.dev.package."*".opt-level=0'
    local models=(cargo test -p tidegate -p tidegate-service --lib --target-dir "$target/loom"
        --config "$quick")
    bounded 900 "${models[@]}" --no-run &&
        bounded 240 "${models[@]}" ::loom:: >"$scratch/models" || return 1
    cat "$scratch/models"
    grep -q '^test event_loop::remote::loom::.* ok$' "$scratch/models" &&
        grep -q '^test mailbox::queue::loom::.* ok$' "$scratch/models" &&
        grep -q '^test remote_writer::queue::loom::.* ok$' "$scratch/models"
}

# tls_of FEATURES: the tests within tidegate-tls, whose helpers choose a provider by its features.
tls_of() {
    bounded 1200 cargo test -p tidegate-tls --lib --no-default-features --features "$1"
}

step tests "" "the README's commands; all tests" readme_commands
step thread-models "" "models of threads" models_of_threads
for features in aws-lc-rs,tls12 ring,aws-lc-rs,tls12; do
    step "tests-tls-$features" "" "tidegate-tls, features: $features" tls_of "$features"
done
