# Counts against what was recorded, and that the measurements run.

# Against what was recorded: the same on every machine.
counts() {
    bounded 1200 cargo build --release -p tidegate-bench --bins &&
        bounded 600 cargo run --release -p tidegate-bench --bin counts
}

# That it runs; the figures of a shared machine say nothing.
comparison() {
    local raw=$scratch/compare/raw.jsonl
    bounded 1200 cargo build --release -p tidegate-bench --bins &&
        bounded 300 cargo run --release -p tidegate-bench --bin compare -- \
            --quick --out "$scratch/compare" || return 1
    [ -s "$scratch/compare/throughput.svg" ] && ! grep '"error"' "$raw"
}

# The same, beside redis-server.
comparison_redis() {
    bounded 1200 cargo build --release -p tidegate-bench --bin compare_redis &&
        bounded 1300 cargo run --release -p tidegate-bench --bin compare_redis -- --quick \
            >"$scratch/compare_redis" || return 1
    cat "$scratch/compare_redis"
    [ "$(grep -c '^| LRANGE_100' "$scratch/compare_redis")" = 2 ]
}

# The same, of HTTP.
comparison_http() {
    bounded 1200 cargo build --release -p tidegate-bench --bins &&
        bounded 100 cargo run --release -p tidegate-bench --bin compare_http -- --rounds 1 \
            >"$scratch/compare_http" || return 1
    cat "$scratch/compare_http"
    [ "$(grep -c '^| hyper | [1-9]' "$scratch/compare_http")" = 2 ]
}

# The same, of proxies.
comparison_relay() {
    bounded 1200 cargo build --release -p tidegate-bench --bin compare_relay &&
        bounded 1300 cargo run --release -p tidegate-bench --bin compare_relay -- \
            --rounds 1 --seconds 0.1 >"$scratch/compare_relay" || return 1
    cat "$scratch/compare_relay"
    ! grep "left out" "$scratch/compare_relay" &&
        grep -q "^| connect, 64 B, close | " "$scratch/compare_relay"
}

# The same, of timers, callbacks and wake-ups.
micro() {
    bounded 1200 cargo build --release -p tidegate-bench --bins &&
        bounded 100 cargo run --release -p tidegate-bench --bin micro -- --quick \
            >"$scratch/micro" || return 1
    cat "$scratch/micro"
    grep -q "^| insert and cancel beside live timers | 10000 | " "$scratch/micro"
}

# The same, of one loop and of two.
scale() {
    bounded 1200 cargo build --release -p tidegate-bench --bins &&
        bounded 100 cargo run --release -p tidegate-bench --bin scale -- --rounds 1 --seconds 0.3 \
            >"$scratch/scale" || return 1
    cat "$scratch/scale"
    [ "$(grep -c '^| .* | [1-9][0-9]* | ' "$scratch/scale")" = 5 ]
}

# The same, of the output of children. Not optimised: the feature makes another tokio, and so another build.
comparison_children() {
    bounded 1200 cargo run -p tidegate-bench --features children --bin compare_children -- \
        --rounds 1 --mebibytes 64 >"$scratch/compare_children" || return 1
    cat "$scratch/compare_children"
    grep -q '^| tokio | [1-9]' "$scratch/compare_children"
}

step counts "counting_programs" "system calls, instructions, allocations, memory" counts
step comparison "python counting_programs" "a short comparison" comparison
step comparison-redis redis "a short comparison with redis-server" comparison_redis
step comparison-http "network_programs" "a short comparison of HTTP" comparison_http
step comparison-relay "proxies" "a short comparison of proxies" comparison_relay
step comparison-children "" "a short comparison of reading a child's output" comparison_children
step micro "" "timers, callbacks and wake-ups, in short" micro
step scale "" "one loop and two, in short" scale
