# Tests with Python's asyncio, nc and socat.

interop() {
    python3 --version &&
        bounded 900 cargo test -p tests --features interop --test 'interop*'
}

step interop "network_programs" "with Python, nc and socat" interop
