# How steps are declared, chosen and run, and the commands that they share.

export CARGO_TERM_COLOR=never
# Nothing is built twice after a change here.
export CARGO_INCREMENTAL=${CARGO_INCREMENTAL-0}
scratch=$(mktemp -d) || exit 1
target=$(cargo metadata --no-deps --format-version 1 |
    sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
[ -n "$target" ] || exit 1
servers=()

stop_servers() {
    local server
    for server in "${servers[@]}"; do
        kill "$server" 2>/dev/null
        wait "$server" 2>/dev/null
    done
    servers=()
}

finish() {
    stop_servers
    rm -rf "$scratch"
}
trap finish EXIT

# Declaring.

steps=()
declare -A theme_of needs_of title_of command_of

# step NAME NEEDS TITLE COMMAND...: NEEDS are names of needs.sh, and `root`.
step() {
    steps+=("$1")
    theme_of[$1]=$theme
    needs_of[$1]=$2
    title_of[$1]=$3
    printf -v "command_of[$1]" '%q ' "${@:4}"
}

list_steps() {
    local name shown=
    for name in "${steps[@]}"; do
        [ "${theme_of[$name]}" = "$shown" ] || echo "${theme_of[$name]}:"
        shown=${theme_of[$name]}
        printf '    %-26s %s\n' "$name" "${title_of[$name]}"
    done
}

# steps_named NAME: of a step, of a theme, or `all`.
steps_named() {
    local name
    for name in "${steps[@]}"; do
        case $1 in
        all | "$name" | "${theme_of[$name]}") echo "$name" ;;
        esac
    done
}

# Running.

passed=0
failed=0
left_out=0
installing=0
declare -A met

# The exit code of a command that cannot be run here, after it has printed why.
not_here=77

# report TITLE COMMAND...
report() {
    local title=$1 started=$SECONDS code
    shift
    echo "== $title"
    "$@" >"$scratch/step.log" 2>&1
    code=$?
    stop_servers
    case $code in
    0)
        passed=$((passed + 1))
        echo "   passed ($((SECONDS - started)) s)"
        ;;
    "$not_here")
        left_out=$((left_out + 1))
        echo "   left out: $(tail -n 1 "$scratch/step.log")"
        ;;
    *)
        failed=$((failed + 1))
        sed 's/^/   | /' "$scratch/step.log" | tail -n 100
        echo "   FAILED: $title"
        ;;
    esac
    return "$code"
}

# meet NEED: once a run, however many steps have it.
meet() {
    local started=$SECONDS
    if [ -z "${met[$1]-}" ]; then
        report "${title_of_need[$1]}" "need_$1"
        met[$1]=$?
        installing=$((installing + SECONDS - started))
    fi
    return "${met[$1]}"
}

run_step() {
    local name=$1 need
    for need in ${needs_of[$name]}; do
        if [ "$need" = root ]; then
            if [ "$(id -u)" != 0 ]; then
                report "$name" needs_root
                return
            fi
        elif ! meet "$need"; then
            report "$name" is_missing "$need"
            return
        fi
    done
    report "$name: ${title_of[$name]}" eval "${command_of[$name]}"
}

needs_root() {
    echo "it needs root"
    return "$not_here"
}

is_missing() {
    echo "not there: $1"
    return 1
}

summary() {
    [ "$left_out" = 0 ] || echo "$left_out left out"
    echo "$SECONDS s, of these $installing s to install and build what steps need"
    echo "$passed passed, $failed failed"
    [ "$failed" = 0 ]
}

# What steps share.

# bounded LIMIT COMMAND...: killed when it takes longer.
bounded() {
    timeout --kill-after=10 "$@"
}
