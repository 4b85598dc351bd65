# Programs that steps need, each installed once a run when it is not there.

declare -A title_of_need=(
    [python]="python3 is there"
    [websockets]="Python's websockets is there"
    [typos]="typos is there"
    [shellcheck]="shellcheck is there"
    [network_programs]="nc, socat, curl and wrk are there"
    [openssl]="openssl is there"
    [redis]="redis-cli, redis-benchmark, redis-server and redis-py are there"
    [proxies]="haproxy and nginx with its stream module are there"
    [dns_programs]="dig and dnsperf are there"
    [counting_programs]="valgrind, strace, gcc and OpenSSL's headers are there"
    [harm_programs]="the programs that do harm are there"
    [cargo_deny]="cargo-deny is there"
    [examples]="examples build"
)
packages_are_current=

# install PACKAGE...: of Debian.
install() {
    local sudo=
    [ "$(id -u)" = 0 ] || sudo=sudo
    if [ -z "$packages_are_current" ]; then
        bounded 300 $sudo apt-get update || return 1
        packages_are_current=yes
    fi
    bounded 600 $sudo env DEBIAN_FRONTEND=noninteractive apt-get install --yes "$@"
}

need_python() {
    python3 -c 'import ensurepip' || install python3 python3-venv
}

# A place of its own for Python's packages, made again in each run.
venv() {
    need_python || return 1
    [ -x "$scratch/venv/bin/pip" ] || bounded 120 python3 -m venv "$scratch/venv" || return 1
    bounded 300 "$scratch/venv/bin/pip" install --quiet --disable-pip-version-check "$@"
}

need_websockets() {
    venv 'websockets>=14'
}

need_typos() {
    venv 'typos==1.52.*'
}

need_shellcheck() {
    command -v shellcheck || install shellcheck
}

need_network_programs() {
    need_python || return 1
    command -v socat && nc -h 2>&1 | grep OpenBSD && command -v curl && command -v wrk && return 0
    install netcat-openbsd socat curl wrk
}

# Debian starts what it installs.
need_proxies() {
    haproxy -v && nginx -v && ls /usr/lib/nginx/modules/ngx_stream_module.so && return 0
    install haproxy nginx-light libnginx-mod-stream
}

need_dns_programs() {
    command -v dig && command -v dnsperf || install dnsutils dnsperf
}

need_openssl() {
    openssl version || install openssl
}

need_redis() {
    if ! { redis-cli --version && redis-benchmark --version && redis-server --version; }; then
        install redis-server redis-tools || return 1
    fi
    venv 'redis>=5'
}

# The counts are taken with these, and the servers in C need a compiler, one of them OpenSSL.
counting_programs() {
    valgrind --version && strace -V && setpriv --version && pkg-config --exists openssl &&
        echo '#include <openssl/ssl.h>' | gcc -x c -fsyntax-only -
}

need_counting_programs() {
    counting_programs && return 0
    install valgrind strace util-linux gcc libc6-dev pkg-config libssl-dev && counting_programs
}

# The tests that need root do harm to a server with these.
harm_programs() {
    strace -V && ss -V && setpriv --version &&
        echo '#include <stdlib.h>' | gcc -shared -x c -o "$scratch/nothing.so" -
}

need_harm_programs() {
    harm_programs && return 0
    install strace iproute2 util-linux gcc libc6-dev && harm_programs
}

# cargo_program NAME VERSION: kept in the target folder. Unoptimised, since it builds in a third of
# the time and runs for a second.
cargo_program() {
    "$target/ci/bin/$1" --version | grep -qxF "$1 $2" && return 0
    bounded 1800 cargo install --debug --locked --root "$target/ci" --target-dir "$target/ci/build" \
        "$1@$2" || return 1
    rm -rf "$target/ci/build"
}

need_cargo_deny() {
    cargo_program cargo-deny 0.20.2
}

need_examples() {
    bounded 1200 cargo build --examples
}
