# Tests with Python's asyncio and ssl, nc, socat and openssl.

interop() {
    python3 --version && openssl version &&
        bounded 900 cargo test --workspace --features tests/interop --test 'interop*'
}

step interop "network_programs openssl" "with Python, nc, socat and openssl" interop
