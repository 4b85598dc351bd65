# The examples, each run and spoken to.

example() {
    local limit=$1 name=$2
    shift 2
    bounded "$limit" cargo run --quiet --example "$name" -- "$@"
}

# start_server EXAMPLE ARGUMENT...: sets address once it is listening. What it
# logs goes to server.err in $scratch.
start_server() {
    local name=$1 line
    shift
    local server_out
    exec {server_out}< <(exec timeout 120 cargo run --quiet --example "$name" -- "$@" \
        2>"$scratch/server.err")
    servers+=($!)
    if ! IFS= read -r -t 60 line <&"$server_out"; then
        echo "$name $*: no line within 60 s"
        cat "$scratch/server.err"
        return 1
    fi
    case $line in
    "listening on "*) address=${line#listening on } ;;
    *)
        echo "$name $*: unexpected line: $line"
        return 1
        ;;
    esac
}

# hello_as EXAMPLE: the same words, written with callbacks or as async code.
hello_as() {
    local output largest
    output=$(example 5 "$1") || return 1
    echo "$output"
    diff <(conversation) <(echo "$output" | head -n 3) || return 1
    largest=$(echo "$output" |
        sed -n 's/^64 MiB to a slow reader, largest write buffer \([0-9]*\) KiB (.*)$/\1/p')
    [ -n "$largest" ] && [ "$largest" -gt 0 ] && [ "$largest" -le 128 ]
}

conversation() {
    printf '%s\n' "Send: 'Hello World!'" "Received: 'Hello World!'" "Close the connection"
}

# echo_at WHERE EXAMPLE ARGUMENT...: all clients speak to a server.
echo_at() {
    local where=$1 name=$2
    shift 2
    start_server "$name" --listen "$where" "$@" || return 1
    echo "server at $address"
    diff <(conversation) <(example 30 echo_client --connect "$address") || return 1
    bounded 60 python3 .ci/peers/echo.py "$address" || return 1
    head -c 1000000 /dev/urandom >"$scratch/sent"
    case $address in
    unix:*)
        comes_back nc -N -U "${address#unix:}" &&
            comes_back socat -t 30 - "UNIX-CONNECT:${address#unix:}"
        ;;
    *)
        comes_back nc -N "${address%:*}" "${address##*:}" &&
            comes_back socat -t 30 - "TCP:$address"
        ;;
    esac
}

# comes_back COMMAND...: what goes into it comes out of it.
comes_back() {
    echo "$*"
    bounded 60 "$@" <"$scratch/sent" >"$scratch/back" && cmp "$scratch/sent" "$scratch/back"
}

# relay_at WHERE: an echo server behind a proxy.
relay_at() {
    start_server echo_server --listen "unix:$scratch/back.sock" || return 1
    start_server relay --listen "$1" --to "unix:$scratch/back.sock" || return 1
    echo "proxy at $address"
    diff <(conversation) <(example 30 echo_client --connect "$address") || return 1
    bounded 60 python3 .ci/peers/echo.py "$address"
}

# chat_at WHERE: members come and go, and one never reads.
chat_at() {
    start_server chat --listen "$1" || return 1
    echo "server at $address"
    bounded 100 python3 .ci/peers/chat.py "$address" "$scratch/server.err"
}

mixed() {
    local output
    output=$(example 5 mixed) || return 1
    echo "$output"
    diff <(printf '%s\n' "FIRST: GOOD BYE" "FIRST: HELLO" "SECOND: GOOD BYE" "SECOND: HELLO" \
        "The protocol received 60 bytes") <(echo "$output" | sort)
}

# Eleven minutes that take no time, but for the build.
virtual_time() {
    local output
    output=$(example 60 virtual_time) || return 1
    echo "$output"
    diff <(printf '%s\n' "Send: 'hello'" "Received: 'hello'" "Received: 'good bye'" \
        "connection closed: end of stream from the peer") <(echo "$output" | head -n 4) &&
        echo "$output" | tail -n 1 | grep -qxE '660 s of virtual time in [0-9]{1,3} ms'
}

# http_hyper_at WHERE: curl, and wrk where it can.
http_hyper_at() {
    local curl=(bounded 60 curl --silent --show-error) url
    start_server http_hyper --listen "$1" || return 1
    http_url
    "${curl[@]}" --fail "$url/" | grep "<h1>Hello World!</h1>" || return 1
    echoes && one_connection || return 1
    echo "ten million numbers"
    "${curl[@]}" --fail "$url/count/10000000" | cmp - <(seq 10000000) || return 1
    echo "two requests at once, and the end of the stream behind them"
    [ "$(printf 'GET /count/%d HTTP/1.1\r\nHost: x\r\n\r\n' 1 2 | half_closed |
        grep -c '^HTTP/1.1 200')" = 2 ] || return 1
    answers 404 "$url/nowhere" && answers 405 "$url/echo" && answers 400 "$url/count/x" || return 1
    case $address in
    unix:*) ;;
    *) load "$url/" ;;
    esac || return 1
    "${curl[@]}" --fail "$url/" | grep "<h1>Hello World!</h1>" || return 1
    cat "$scratch/server.err"
    [ ! -s "$scratch/server.err" ]
}

# http_by_hand_at WHERE: curl, nc, and wrk where it can, also with several requests at a time.
http_by_hand_at() {
    local curl=(bounded 60 curl --silent --show-error) url
    start_server http --listen "$1" || return 1
    http_url
    "${curl[@]}" --fail "$url/" | diff <(echo "Hello World!") - || return 1
    "${curl[@]}" --fail --http1.0 "$url/" | diff <(echo "Hello World!") - || return 1
    "${curl[@]}" --fail --head "$url/" | tr -d '\r' >"$scratch/head" || return 1
    grep -qx "Content-Length: 13" "$scratch/head" && ! grep "Hello" "$scratch/head" || return 1
    echoes && one_connection || return 1
    echo "a large body whose client waits for 100"
    "${curl[@]}" --fail --verbose -H "Expect: 100-continue" --data-binary "@$scratch/sent" \
        "$url/echo" 2>"$scratch/verbose" | cmp - "$scratch/sent" &&
        grep "< HTTP/1.1 100 Continue" "$scratch/verbose" || return 1
    echo "a long reply"
    "${curl[@]}" --fail "$url/bytes/300000000" |
        cmp - <(head -c 300000000 /dev/zero | tr '\0' x) || return 1
    answers 404 "$url/nowhere" && answers 405 "$url/echo" || return 1
    echo "two lengths of one body: one reply, and the end"
    printf 'POST /echo HTTP/1.1\r\nHost: x\r\n%b\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n' \
        'Content-Length: 5\r\nTransfer-Encoding: chunked\r\n' | half_closed |
        grep '^HTTP/1.1' | tr -d '\r' | diff <(echo "HTTP/1.1 400 Bad Request") - || return 1
    case $address in
    unix:*) ;;
    *) load "$url/" && load "$url/" --script crates/tidegate-bench/peers/pipeline.lua ;;
    esac || return 1
    "${curl[@]}" --fail "$url/" | diff <(echo "Hello World!") - || return 1
    cat "$scratch/server.err"
    [ ! -s "$scratch/server.err" ]
}

# http_url: the URL of the server at $address, and the option that curl needs.
http_url() {
    echo "server at $address"
    url=http://localhost
    case $address in
    unix:*) curl+=(--unix-socket "${address#unix:}") ;;
    *) url=http://$address ;;
    esac
}

# An echo with a length, and one in chunks.
echoes() {
    head -c 20000000 /dev/urandom >"$scratch/sent"
    "${curl[@]}" --fail --data-binary "@$scratch/sent" "$url/echo" | cmp - "$scratch/sent" &&
        "${curl[@]}" --fail -H "Transfer-Encoding: chunked" --data-binary "@$scratch/sent" \
            "$url/echo" | cmp - "$scratch/sent"
}

# Two requests on one connection.
one_connection() {
    "${curl[@]}" --fail --output "$scratch/page" --write-out '%{num_connects}\n' \
        "$url/" --next --silent --output "$scratch/page" --write-out '%{num_connects}\n' "$url/" |
        diff <(printf '1\n0\n') -
}

# certificate: for localhost, into $scratch; sets pem to the options of a server that has it. It is
# its own root, and no authority.
certificate() {
    pem=(--cert "$scratch/cert.pem" --key "$scratch/key.pem")
    [ -s "$scratch/cert.pem" ] || bounded 60 openssl req -x509 -newkey rsa:2048 -nodes -days 2 \
        -subj /CN=localhost -addext basicConstraints=critical,CA:FALSE \
        -addext subjectAltName=DNS:localhost,IP:127.0.0.1 \
        -keyout "$scratch/key.pem" -out "$scratch/cert.pem" 2>"$scratch/req.err" ||
        { cat "$scratch/req.err" && return 1; }
}

# https_at WHERE: curl, wrk where it can, our own client; and what speaks no TLS disturbs nobody.
https_at() {
    local curl=(bounded 60 curl --silent --show-error --fail) url=https://localhost pem
    certificate || return 1
    start_server https --listen "$1" "${pem[@]}" || return 1
    echo "server at $address"
    https_url
    "${curl[@]}" --cacert "$scratch/cert.pem" "$url/" | grep "encrypted World" || return 1
    "${curl[@]}" --output "$scratch/page" "$url/" && return 1
    curl --silent --output "$scratch/page" "${url/https/http}/" && return 1
    case $address in
    unix:*) ;;
    *)
        echo "our client"
        example 60 https --fetch "$url/" --ca "$scratch/cert.pem" | grep "encrypted World" &&
            fails_with 1 https --fetch "${url/localhost/127.0.0.2}/" --ca "$scratch/cert.pem" &&
            load "https://$address/" || return 1
        ;;
    esac
    "${curl[@]}" --cacert "$scratch/cert.pem" "$url/" | grep "encrypted World" || return 1
    cat "$scratch/server.err"
    [ ! -s "$scratch/server.err" ]
}

# A page without a length, which ends with a close_notify of openssl's server.
https_fetch() {
    local pem port
    certificate || return 1
    port=$(free_port) || return 1
    openssl s_server -accept "127.0.0.1:$port" -cert "$scratch/cert.pem" -key "$scratch/key.pem" \
        -www -quiet >"$scratch/s_server.out" 2>&1 &
    servers+=($!)
    port_listens "$port" || return 1
    example 60 https --fetch "https://localhost:$port/" --ca "$scratch/cert.pem" >"$scratch/page" &&
        grep -i "s_server" "$scratch/page"
}

# free_port: one that nobody listened at a moment ago.
free_port() {
    python3 -c 'import socket
with socket.create_server(("127.0.0.1", 0)) as server: print(server.getsockname()[1])'
}

# port_listens PORT: waits until somebody does.
port_listens() {
    bounded 20 python3 -c 'import socket, sys
while True:
    try:
        socket.create_connection(("127.0.0.1", int(sys.argv[1]))).close()
        break
    except ConnectionRefusedError:
        pass' "$1"
}

# tls_echo_at WHERE: openssl in both versions of TLS.
tls_echo_at() {
    local pem version to
    certificate || return 1
    fails_with 2 tls_echo --listen "$1" --cert "$scratch/cert.pem" || return 1
    fails_with 1 tls_echo --listen "$1" --cert "$scratch/key.pem" --key "$scratch/key.pem" || return 1
    start_server tls_echo --listen "$1" "${pem[@]}" || return 1
    echo "server at $address"
    head -c 1000000 /dev/urandom >"$scratch/sent"
    case $address in
    unix:*) to=(-unix "${address#unix:}") ;;
    *) to=(-connect "$address") ;;
    esac
    for version in -tls1_2 -tls1_3; do
        tls_comes_back "$version" || return 1
    done
    # Another version, and no TLS at all: the others are served.
    openssl s_client "${to[@]}" -tls1_1 -cipher ALL@SECLEVEL=0 </dev/null >/dev/null 2>&1 && return 1
    echo "GET / HTTP/1.1" | half_closed >"$scratch/page"
    tls_comes_back -tls1_3 || return 1
    cat "$scratch/server.err"
    [ ! -s "$scratch/server.err" ]
}

# tls_comes_back VERSION: what goes into openssl's client comes out of it. The client goes on after the
# end of its input (-quiet), for else a byte of it may be one of its commands.
tls_comes_back() {
    local output client
    echo "openssl s_client $1"
    exec {output}< <(exec timeout 60 openssl s_client "${to[@]}" "$1" -servername localhost \
        -verify_hostname localhost -CAfile "$scratch/cert.pem" -verify_return_error -quiet \
        <"$scratch/sent" 2>"$scratch/s_client.err")
    client=$!
    head -c 1000000 <&"$output" >"$scratch/back"
    kill "$client"
    exec {output}<&-
    cmp "$scratch/sent" "$scratch/back"
}

# Our client, openssl's, and one that sends the command and its handshake at once.
starttls() {
    local pem
    certificate || return 1
    start_server starttls --listen 127.0.0.1:0 "${pem[@]}" || return 1
    echo "server at $address"
    example 30 starttls --connect "$address" --ca "$scratch/cert.pem" >"$scratch/talk" || return 1
    cat "$scratch/talk"
    grep -q "^encrypted: TLSv1_3$" "$scratch/talk" && grep -q "^< 221 " "$scratch/talk" || return 1
    printf 'EHLO x\r\nQUIT\r\n' | bounded 30 openssl s_client -connect "$address" -starttls smtp \
        -CAfile "$scratch/cert.pem" -verify_return_error -quiet -ign_eof 2>"$scratch/s_client.err" |
        grep "^221 good bye" || return 1
    bounded 60 python3 .ci/peers/starttls.py "$address" "$scratch/cert.pem" || return 1
    fails_with 1 starttls --connect "unix:$scratch/nobody" --ca "$scratch/cert.pem" || return 1
    cat "$scratch/server.err"
    [ ! -s "$scratch/server.err" ]
}

# A pipe as its standard input, more than all buffers hold in both directions, and files that no loop waits for; then
# a terminal.
terminal() {
    start_server lines --listen 127.0.0.1:0 || return 1
    printf 'one\nthree' | example 30 terminal --connect "$address" |
        diff <(printf '1: 3 bytes\n2: 5 bytes\n') - || return 1
    start_server echo_server --listen "unix:$scratch/terminal.sock" || return 1
    seq 1000000 | example 60 terminal --connect "$address" | cmp - <(seq 1000000) || return 1
    fails_with 2 terminal --connect "$address" <Cargo.toml &&
        fails_with 2 terminal --connect "$address" </dev/null &&
        fails_with 2 terminal --connect "$address" <&- &&
        fails_with 2 terminal --connect nowhere &&
        fails_with 1 terminal --connect "unix:$scratch/nobody" || return 1
    bounded 120 python3 .ci/peers/terminal.py
}

# The last line has no end; one that is too long ends the connection.
lines() {
    start_server lines --listen 127.0.0.1:0 || return 1
    printf 'one\nthree' | half_closed | diff <(printf '1: 3 bytes\n2: 5 bytes\n') - || return 1
    printf 'one\n%02000d\n' 0 | half_closed | diff <(printf '1: 3 bytes\n') - || return 1
    grep 'a frame is longer than 1000 bytes' "$scratch/server.err"
}

# In the clear by nc, and with TLS behind the header by Python.
proxy_header() {
    local pem
    certificate || return 1
    start_server proxy_header --listen 127.0.0.1:0 || return 1
    printf 'PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\nping\n' | half_closed |
        diff <(printf 'hello, 192.0.2.1:56324\nping\n') - || return 1
    printf 'PROXY TCP4 192.0.2.1 192.0.2.2 99999 443\r\nping\n' | half_closed |
        diff /dev/null - || return 1
    start_server proxy_header --listen 127.0.0.1:0 "${pem[@]}" || return 1
    echo "server at $address"
    bounded 60 python3 .ci/peers/proxy_header.py "$address" "$scratch/cert.pem" || return 1
    cat "$scratch/server.err"
    [ ! -s "$scratch/server.err" ]
}

# key_value_at WHERE: redis-cli, redis-benchmark and redis-py.
key_value_at() {
    start_server key_value --listen "$1" || return 1
    echo "server at $address"
    local to
    case $address in
    unix:*) to=(-s "${address#unix:}") ;;
    *) to=(-h "${address%:*}" -p "${address##*:}") ;;
    esac
    printf '%s\n' "SET name Ada" "INCR count" "LPUSH list a b" "LRANGE list 0 -1" "NONSENSE" |
        bounded 10 redis-cli "${to[@]}" |
        diff <(printf '%s\n' OK 1 2 b a "ERR unknown command 'NONSENSE'" "") - || return 1
    [ "$(bounded 10 redis-cli "${to[@]}" GET name)" = Ada ] || return 1
    bounded 100 redis-benchmark "${to[@]}" -q -n 10000 -P 16 \
        -t ping,set,get,incr,lpush,lrange_100 >"$scratch/benchmark" 2>&1 || return 1
    tr '\r' '\n' <"$scratch/benchmark" | grep ' requests per second' || return 1
    grep -i error "$scratch/benchmark" && return 1
    bounded 60 "$scratch/venv/bin/python" .ci/peers/key_value.py "$address" || return 1
    cat "$scratch/server.err"
    [ ! -s "$scratch/server.err" ]
}

# https_url: the URL of the server at $address, and the options that curl needs.
https_url() {
    case $address in
    unix:*) curl+=(--unix-socket "${address#unix:}") ;;
    *)
        url=https://localhost:${address##*:}
        curl+=(--resolve "localhost:${address##*:}:127.0.0.1")
        ;;
    esac
}

# udp_echo_at WHERE: each way to write it, spoken to by socat.
udp_echo_at() {
    local way back
    for way in protocol task; do
        start_server udp_echo --listen "${1/.sock/-$way.sock}" --as "$way" || return 1
        case $address in
        unix:*) back="UNIX-SENDTO:${address#unix:},bind=$scratch/client-$way.sock" ;;
        *) back="UDP:$address" ;;
        esac
        diff <(echo hello) <(echo hello | bounded 10 socat -t 1 - "$back") || return 1
    done
}

# dig and dnsperf over UDP and TCP; a reply that is too long comes over TCP.
dns() {
    local dig line
    {
        printf 'www.example. 60 A 192.0.2.1\nexample. 60 TXT hello world\n'
        for line in $(seq 100); do echo "many.example 1 A 192.0.2.$line"; done
    } >"$scratch/zone"
    start_server dns --listen 127.0.0.1:0 --zone "$scratch/zone" || return 1
    dig=(bounded 20 dig "@${address%:*}" -p "${address##*:}" +short)
    diff <(echo 192.0.2.1) <("${dig[@]}" www.example) || return 1
    diff <(echo 192.0.2.1) <("${dig[@]}" +tcp WWW.example) || return 1
    diff <(echo '"hello world"') <("${dig[@]}" example TXT) || return 1
    [ "$("${dig[@]}" +noedns many.example | wc -l)" = 100 ] || return 1
    [ -z "$("${dig[@]}" nobody.example)" ] || return 1
    echo "www.example A" >"$scratch/queries"
    bounded 30 dnsperf -s "${address%:*}" -p "${address##*:}" -d "$scratch/queries" -l 2 -c 20 \
        >"$scratch/dnsperf" || return 1
    cat "$scratch/dnsperf"
    grep -q 'Queries lost: *0 ' "$scratch/dnsperf" && [ ! -s "$scratch/server.err" ]
}

# The client checks each byte. With the kernel's help there are fewer reads than datagrams.
quic() {
    local offload output
    for offload in on off; do
        start_server quic --listen 127.0.0.1:0 --cert "$scratch/cert.der" --mib 20 \
            --offload "$offload" || return 1
        output=$(example 60 quic --connect "$address" --cert "$scratch/cert.der" \
            --offload "$offload") || return 1
        echo "offload $offload: $output"
        [[ $output =~ ^20\ MiB\ in\ [0-9.]+\ s,\ ([0-9]+)\ datagrams\ in\ ([0-9]+)\ reads$ ]] ||
            return 1
        [ "$((BASH_REMATCH[1] > BASH_REMATCH[2]))" = "$([ "$offload" = on ] && echo 1 || echo 0)" ] ||
            return 1
    done
    fails_with 2 quic --connect nonsense --cert "$scratch/cert.der" &&
        fails_with 2 quic --cert "$scratch/cert.der" --offload maybe &&
        fails_with 1 quic --connect "$address" --cert "$scratch/no-such-file" &&
        [ ! -s "$scratch/server.err" ]
}

# half_closed: sends what comes in to $address, ends its stream, and prints the reply.
half_closed() {
    case $address in
    unix:*) bounded 10 nc -N -U "${address#unix:}" ;;
    *) bounded 10 nc -N "${address%:*}" "${address##*:}" ;;
    esac
}

# answers CODE URL
answers() {
    [ "$("${curl[@]}" --output "$scratch/page" --write-out '%{http_code}' "$2")" = "$1" ]
}

# load URL OPTION...: as many as come, and each is answered with success.
load() {
    bounded 30 wrk --threads 1 --connections 64 --duration 3s "${@:2}" "$1" >"$scratch/wrk" ||
        return 1
    cat "$scratch/wrk"
    grep -q ' requests in ' "$scratch/wrk" && ! grep -q '^ *0 requests in' "$scratch/wrk" &&
        ! grep -qE 'Socket errors|Non-2xx' "$scratch/wrk"
}

# websocket_at WHERE: Python's websockets.
websocket_at() {
    start_server websocket --listen "$1" || return 1
    echo "server at $address"
    # A port scan, and another protocol: no errors of the server's.
    python3 .ci/peers/strangers.py "$address" || return 1
    bounded 60 "$scratch/venv/bin/python" .ci/peers/websocket.py "$address" || return 1
    ! grep -i handshake "$scratch/server.err"
}

# The numbers of the table, and that the chart has both curves.
backpressure() {
    example 60 backpressure --seconds 0.6 --svg "$scratch/chart.svg" \
        >"$scratch/table" 2>"$scratch/progress" || return 1
    cat "$scratch/progress" "$scratch/table"
    example 30 backpressure --svg "$scratch/nowhere/chart.svg" && return 1
    grep -q "^heeding Flow: .* in the write buffer" "$scratch/progress" || return 1
    python3 .ci/peers/chart.py "$scratch/table" "$scratch/chart.svg"
}

# Requests at once, more than may be under way; a peer that goes away; one that is answered
# meanwhile; one that asks without end.
worker_threads() {
    start_server worker_threads --listen 127.0.0.1:0 --threads 2 || return 1
    echo "server at $address"
    bounded 60 python3 .ci/peers/worker_threads.py "$address"
}

# A member on each of four loops, twice.
workers() {
    start_server workers --listen 127.0.0.1:0 --threads 4 || return 1
    echo "server at $address"
    bounded 60 python3 .ci/peers/workers.py "$address" || return 1
    cat "$scratch/server.err"
    [ ! -s "$scratch/server.err" ]
}

broadcast() {
    start_server broadcast --listen 127.0.0.1:0 --producers 3 --rate 500 || return 1
    echo "server at $address"
    bounded 60 python3 .ci/peers/broadcast.py "$address" || return 1
    cat "$scratch/server.err"
    [ ! -s "$scratch/server.err" ]
}

# pipeline_into COMMAND...: megabytes in small letters go through it; sets report to what it says.
pipeline_into() {
    head -c 20000000 /dev/zero | tr '\0' x |
        bounded 60 cargo run --quiet --example pipeline 2>"$scratch/report" | "$@"
    local codes=("${PIPESTATUS[@]}")
    report=$(<"$scratch/report")
    echo "$report"
    [ "${codes[2]}${codes[3]}" = 00 ]
}

# All of it to a reader that is slow at first, and a line to one that then leaves.
pipeline() {
    local report kib
    pipeline_into bash -c 'sleep 1; tr -d X | wc -c' >"$scratch/rest" &&
        [ "$(head -n 1 "$scratch/rest")" = 0 ] || return 1
    kib=$(sed -n 's/^20000000 bytes written, at most \([0-9]*\) KiB buffered; connection closed: closed here$/\1/p' \
        "$scratch/report")
    [ -n "$kib" ] && [ "$kib" -gt 64 ] && [ "$kib" -le 320 ] || return 1
    pipeline_into head -c 5 >"$scratch/begin" &&
        [ "$(head -c 5 "$scratch/begin")" = XXXXX ] && grep -q "Broken pipe" "$scratch/report" &&
        fails_with 2 pipeline --loud && fails_with 2 pipeline <Cargo.toml
}

# Its own parent, so that a signal reaches it once: timeout(1) would send two.
shutdown_by_signal() {
    bounded 120 python3 .ci/peers/shutdown.py
}

# Three processes take over, one after the other, from a copy of the program, which is replaced by a wrong one for a
# moment.
handover() {
    cp "$target/debug/examples/handover" "$scratch/handover" &&
        bounded 120 python3 .ci/peers/handover.py "$scratch/handover"
}

supervisor() {
    bounded 120 python3 .ci/peers/supervisor.py && fails_with 2 supervisor &&
        fails_with 2 supervisor --run : --count 0
}

# fails_with CODE EXAMPLE ARGUMENT...: that exit code, and one line on stderr and nothing else.
fails_with() {
    local expected=$1 name=$2 code
    shift 2
    example 30 "$name" "$@" >"$scratch/out" 2>"$scratch/err"
    code=$?
    echo "$name $*: exit code $code"
    cat "$scratch/out" "$scratch/err"
    [ "$code" = "$expected" ] && [ ! -s "$scratch/out" ] &&
        [ "$(wc -l <"$scratch/err")" = 1 ] && grep -q "^$name: ." "$scratch/err"
}

# Each option that a program has of its own, and once what is the same in all.
wrong_arguments() {
    fails_with 2 hello --loud &&
        fails_with 2 hello loud &&
        fails_with 2 echo_server --listen nowhere &&
        fails_with 2 echo_server --port 1 &&
        fails_with 2 echo_server --mode fast &&
        fails_with 2 echo_client --connect nowhere &&
        fails_with 2 backpressure --seconds 0 &&
        fails_with 2 worker_threads --threads 0 &&
        fails_with 2 shutdown --grace soon &&
        fails_with 2 handover --listen nowhere &&
        fails_with 2 key_value --memory much &&
        fails_with 2 http --max-body none &&
        fails_with 2 relay &&
        fails_with 2 relay --to nonsense &&
        fails_with 2 tls_echo --cert nowhere &&
        fails_with 2 https --fetch 'http:// /' &&
        fails_with 1 https --fetch http://localhost/ &&
        fails_with 2 starttls --connect 127.0.0.1:1
}

nobody_listens() {
    fails_with 1 echo_client --connect "unix:$scratch/nobody"
}

# stdout_fails DESCRIPTOR: one line on stderr and exit code 1, no panic.
stdout_fails() {
    local code
    example 30 hello 1>&"$1" 2>"$scratch/err"
    code=$?
    cat "$scratch/err"
    [ "$code" = 1 ] && [ "$(wc -l <"$scratch/err")" = 1 ] &&
        grep -q "^hello: cannot write to stdout: " "$scratch/err"
}

full_device_and_closed_pipe() {
    local full closed
    exec {full}>/dev/full {closed}> >(:)
    wait $!
    stdout_fails "$full" && stdout_fails "$closed"
}

# example_step NAME TITLE COMMAND...
example_step() {
    step "$1" "examples${needing:+ $needing}" "${@:2}"
}

needing=
example_step hello "a server and a client" hello_as hello
example_step hello-streams "the same as async code" hello_as hello_streams
example_step mixed "callbacks and async code on one loop" mixed
example_step virtual-time "ten minutes in milliseconds" virtual_time
example_step pipeline "a program in a shell's pipe" pipeline
example_step wrong-arguments "exit code 2 and one line" wrong_arguments
example_step connect-fails "nobody listens" nobody_listens
example_step output-fails "a full device and a closed pipe" full_device_and_closed_pipe
example_step quic "QUIC, with the kernel's help and without" quic

needing=network_programs
for mode in protocol buffered; do
    example_step "echo-tcp-$mode" "echo over TCP, $mode" \
        echo_at 127.0.0.1:0 echo_server --mode "$mode"
    example_step "echo-unix-$mode" "echo over a Unix socket, $mode" \
        echo_at "unix:$scratch/$mode.sock" echo_server --mode "$mode"
done
example_step echo-tcp-streams "echo over TCP, as async code" echo_at 127.0.0.1:0 echo_streams
example_step echo-unix-streams "echo over a Unix socket, as async code" \
    echo_at "unix:$scratch/streams.sock" echo_streams
example_step http-tcp "HTTP by hand over TCP" http_by_hand_at 127.0.0.1:0
example_step http-unix "HTTP by hand over a Unix socket" http_by_hand_at "unix:$scratch/http.sock"
example_step http-hyper-tcp "hyper over TCP" http_hyper_at 127.0.0.1:0
example_step http-hyper-unix "hyper over a Unix socket" http_hyper_at "unix:$scratch/hyper.sock"

needing="network_programs openssl"
example_step https-tcp "HTTPS over TCP" https_at 127.0.0.1:0
example_step https-unix "HTTPS over a Unix socket" https_at "unix:$scratch/https.sock"
example_step https-fetch "a page of openssl's server" https_fetch
example_step tls-echo-tcp "echo over TLS and TCP" tls_echo_at 127.0.0.1:0
example_step tls-echo-unix "echo over TLS and a Unix socket" tls_echo_at "unix:$scratch/tls.sock"
example_step starttls "TLS in the middle of a conversation" starttls
example_step lines "frames" lines
example_step udp-echo "echo of datagrams" udp_echo_at 127.0.0.1:0
example_step udp-echo-unix "echo of datagrams over a Unix socket" udp_echo_at "unix:$scratch/udp.sock"
example_step proxy-header "a layer that leaves, alone and below TLS" proxy_header

needing=dns_programs
example_step dns "a name server over UDP and TCP" dns

needing=websockets
example_step websocket-tcp "WebSocket over TCP" websocket_at 127.0.0.1:0
example_step websocket-unix "WebSocket over a Unix socket" \
    websocket_at "unix:$scratch/websocket.sock"

needing=redis
example_step key-value-tcp "redis's programs over TCP" key_value_at 127.0.0.1:0
example_step key-value-unix "redis's programs over a Unix socket" \
    key_value_at "unix:$scratch/key_value.sock"

needing=python
example_step relay-tcp "relay over TCP" relay_at 127.0.0.1:0
example_step relay-unix "relay over a Unix socket" relay_at "unix:$scratch/front.sock"
example_step chat-tcp "chat over TCP" chat_at 127.0.0.1:0
example_step chat-unix "chat over a Unix socket" chat_at "unix:$scratch/chat.sock"
example_step backpressure "the table and the chart" backpressure
example_step worker-threads "replies from other threads" worker_threads
example_step workers "a chat on several loops" workers
example_step broadcast "threads that produce" broadcast
example_step terminal "a client on a terminal and a socket" terminal
example_step supervisor "programs that are kept running" supervisor
example_step shutdown "shutdown by signals" shutdown_by_signal
example_step handover "processes that take over from each other" handover
