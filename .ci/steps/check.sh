# Formatting, lints, documentation, words.

# clippy ARGUMENT...: of cargo.
clippy() {
    bounded 1200 cargo clippy "$@" -- -D warnings
}

# pages_of_docs ARGUMENT...: of cargo.
pages_of_docs() {
    local -x RUSTDOCFLAGS="-D warnings"
    bounded 1200 cargo doc --workspace --no-deps "$@"
}

# The public pages last: the step `links` finds them.
warnings_of_docs() {
    pages_of_docs --document-private-items --features tidegate/offload,tidegate/peer-credentials,tidegate/splice &&
        pages_of_docs
}

dependencies() {
    local tree
    tree=$(bounded 300 cargo tree -p tidegate -e normal --prefix none --format '{p}') || return 1
    diff <(echo "bytes libc log mio slab socket2 tidegate" | tr ' ' '\n') \
        <(echo "$tree" | cut -d ' ' -f 1 | sort -u)
}

length_of_files() {
    local long
    long=$(find crates examples tests -name '*.rs' -exec wc -l {} + |
        awk '$2 != "total" && $1 > 500')
    echo "$long"
    [ -z "$long" ]
}

links() {
    pages_of_docs && bounded 60 python3 .ci/links "$target/doc"
}

spelling() {
    bounded 60 "$scratch/venv/bin/typos"
}

shell_scripts() {
    bounded 60 shellcheck --severity=warning .ci/run .ci/*.sh .ci/steps/*.sh tests/mutants/run
}

python_scripts() {
    PYTHONPYCACHEPREFIX=$scratch/pycache bounded 60 \
        python3 -m py_compile .ci/words .ci/files .ci/links tests/mutants/generated \
        tests/interop/*.py .ci/peers/*.py
}

step formatting "" "rustfmt changes nothing" bounded 120 cargo fmt --all --check
step clippy "" "everything, all features" clippy --workspace --all-targets --all-features
step clippy-core "" "tidegate alone, features off" clippy -p tidegate --no-default-features
for features in offload peer-credentials process signal splice; do
    step "clippy-core-$features" "" "tidegate alone, features: $features" \
        clippy -p tidegate --features "$features"
done
for features in none futures-io framing process signal tokio hyper; do
    step "clippy-streams-$features" "" "tidegate-streams, features: $features" \
        clippy -p tidegate-streams --no-default-features --features "${features#none}"
done
for features in none ring tls12,native-roots; do
    step "clippy-tls-$features" "" "tidegate-tls, features: $features" \
        clippy -p tidegate-tls --no-default-features --features "${features#none}"
done
# With its tests, which need TLS 1.2, so that AWS-LC is compiled once for this and for the step that runs them.
step clippy-tls-aws-lc-rs,tls12 "" "tidegate-tls and its tests, features: aws-lc-rs,tls12" \
    clippy -p tidegate-tls --all-targets --no-default-features --features aws-lc-rs,tls12
for features in none tokio-util; do
    step "clippy-framing-$features" "" "tidegate-framing, features: $features" \
        clippy -p tidegate-framing --no-default-features --features "${features#none}"
done
for features in none streams; do
    step "clippy-service-$features" "" "tidegate-service, features: $features" \
        clippy -p tidegate-service --no-default-features --features "${features#none}"
done
for features in none signal; do
    step "clippy-testkit-$features" "" "tidegate-testkit, features: $features" \
        clippy -p tidegate-testkit --no-default-features --features "${features#none}"
done
step docs "" "documentation without warnings" warnings_of_docs
step dependencies "" "tidegate has six" dependencies
step file-length "" "no source file above 500 lines" length_of_files
step words "python" "the glossary's words: no more of the others" bounded 60 python3 .ci/words
step files "python" "ARCHITECTURE.md and docs have an entry for each file" bounded 60 python3 .ci/files
step links "python" "links of Markdown lead to files, headings and pages" links
step spelling "python typos" "typos finds none" spelling
step shell-scripts "shellcheck" "shellcheck finds nothing" shell_scripts
step python-scripts "python" "Python scripts compile" python_scripts
