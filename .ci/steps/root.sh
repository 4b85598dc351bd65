# Tests that need root.

system_faults() {
    bounded 900 cargo test --workspace --features tests/root --test 'root*' --no-fail-fast
}

step system-faults "root harm_programs" "faults of the system" system_faults
