# Sourced by the server's tests: starts servers on free loopback ports, and asks them.
server=${TROL_SERVER:-$TROL_BUILD/trol-server}
work=$(mktemp -d -p "$TROL_BUILD")
pids=()
fail() { echo "FAILED: $*"; exit 1; }
stop_all() {
    local status=$? pid
    for pid in "${pids[@]}"; do kill -KILL "$pid" 2>/dev/null && wait "$pid" 2>/dev/null || true; done
    rm -rf "$work"
    exit $status
}
trap stop_all EXIT

# start NAME ARGUMENT ...: sets $url (ends in a slash) and $pid once the server is ready.
start() {
    local name=$1 i
    shift
    : >"$work/$name.out"
    "$server" --port 0 "$@" >>"$work/$name.out" 2>"$work/$name.err" &
    pid=$!
    pids+=("$pid")
    for ((i = 0; i < 600; i++)); do
        url=$(head -n 1 "$work/$name.out")
        [ -z "$url" ] || ! curl -sf -m 5 "${url}health" >/dev/null || return 0
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.1
    done
    fail "trol-server $* did not become ready: $(cat "$work/$name.err")"
}

# ask STATUS TEXT PATH CURL-ARGUMENT ...: the reply has the status, and TEXT in it. It is in $work/reply.
ask() {
    local expected=$1 text=$2 path=$3 status
    shift 3
    status=$(curl -sS -m 60 -o "$work/reply" -D "$work/headers" -w '%{http_code}' "${url}$path" "$@") ||
        fail "$path $*: no reply"
    [ "$status" = "$expected" ] || fail "$path $*: status $status, expected $expected: $(head -c 600 "$work/reply")"
    [ -z "$text" ] || grep -qF -- "$text" "$work/reply" || fail "$path $*: no '$text' in the reply: $(head -c 600 "$work/reply")"
    if [ "$expected" -ge 400 ]; then
        grep -q '^{"error":{"message":".*","type":".*","param":.*,"code":.*}}$' "$work/reply" ||
            fail "$path $*: not an error object: $(head -c 600 "$work/reply")"
    fi
}

# chat STATUS TEXT JSON: the same for a chat request; @FILE reads the JSON.
chat() { ask "$1" "$2" v1/chat/completions -H 'Content-Type: application/json' --data-binary "$3"; }

# image_request QUESTION PICTURE EXTRA-FIELDS: a request with a picture, into $work/request.
image_request() {
    printf '{"messages":[{"role":"user","content":[{"type":"text","text":"%s"},{"type":"image_url","image_url":{"url":"data:image/png;base64,%s"}}]}]%s}' \
        "$1" "$(base64 -w 0 "$2")" "$3" >"$work/request"
}

# metric NAME: its value.
metric() { curl -sf -m 10 "${url}metrics" | sed -n "s/^trol_$1 //p"; }

# content FILE: the text of the first choice of a whole answer.
content() { sed 's/.*"role":"assistant","content":"\([^"]*\)".*/\1/' "$1"; }

# streamed FILE: the texts of a streamed answer together, still escaped as in JSON.
streamed() { sed -n 's/.*"delta":{"content":"\(.*\)"},"logprobs".*/\1/p' "$1" | tr -d '\n'; }
