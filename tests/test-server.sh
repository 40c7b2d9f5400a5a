#!/usr/bin/env bash
# trol-server over curl: answers whole and streamed, fields refused by name, limits, keys, clients that leave, the end.
set -euo pipefail

[ -x "$TROL_BUILD/trol-server" ] || { echo "skipped: there is no trol-server (libmicrohttpd)"; exit 77; }
command -v curl >/dev/null || { echo "skipped: there is no curl"; exit 77; }
. "$TROL_SOURCE/tests/server/common.sh"

model=$TROL_SOURCE/models/trol-tiny-internlm2
balloons=$TROL_SOURCE/models/pictures/balloons.png
hello='"messages":[{"role":"user","content":"What is a circle?"}]'
cli() { "$TROL_BUILD/trol-cli" -q -m "$model" "$@"; }

# ---- bad usage
for arguments in "--port 70000" "--parallel 0" "--nonsense" "--host 203.0.113.77" "-m /nonexistent"; do
    # shellcheck disable=SC2086
    if timeout 20 "$server" --port 0 $arguments >/dev/null 2>"$work/printed"; then fail "trol-server $arguments ended well"; fi
    [ -s "$work/printed" ] || fail "trol-server $arguments printed nothing"
done

start main -m "$model" --parallel 3 --queue 4 -c 50000
grep -q "memory at most: .* MiB in all" "$work/main.err" || fail "no line on memory"
grep -q "^http://127.0.0.1:[0-9]*/$" "$work/main.out" || fail "no address"

# ---- what it is
ask 200 '{"status":"ok"}' health
ask 200 '"id":"trol-tiny-internlm2"' v1/models
ask 200 '"n_ctx":50000' props
ask 200 'trol_slots 3' metrics
ask 200 '<!doctype html>' ''
grep -qi "^content-security-policy: default-src 'none'" "$work/headers" || fail "the page has no policy"
grep -qi "unsafe" "$work/headers" && fail "the policy is not strict"
ask 200 '{"tokens":[' tokenize -d '{"content":"a red heart"}'
ask 200 '{"content":"a red heart"}' detokenize -d "$(cat "$work/reply")"
ask 404 'there is nothing at /nothing' nothing
ask 405 'is not a method of /v1/models, expected GET' v1/models -d '{}'
grep -qi "^allow: GET" "$work/headers" || fail "405 without Allow"
ask 405 'expected POST' v1/chat/completions
ask 200 '{"id":"trol-tiny-internlm2","object":"model"' v1/models/trol-tiny-internlm2
ask 404 'there is no model \"another\" here' v1/models/another
ask 404 'there is nothing at /v1/models/' v1/models/
ask 204 '' v1/chat/completions -X OPTIONS
curl -sS -m 10 -I "${url}v1/models" >"$work/reply"
grep -q '^HTTP/1.1 200' "$work/reply" || fail "HEAD: $(cat "$work/reply")"

# ---- answers: whole, streamed, with a picture; the same as trol-cli's
expected=$(cli --image "$balloons" -p "What color is the heart?")
image_request "What color is the heart?" "$balloons" ''
chat 200 '"finish_reason":"stop"' "@$work/request"
[ "$(content "$work/reply")" = "$expected" ] || fail "answered '$(content "$work/reply")', trol-cli '$expected'"
grep -q '"cached_tokens":0' "$work/reply" || fail "the first request reused tokens"
chat 200 '"finish_reason":"stop"' "@$work/request"
grep -q '"cached_tokens":0' "$work/reply" && fail "the second request reused nothing"
[ "$(metric images_encoded_total)" = 1 ] || fail "the picture was encoded $(metric images_encoded_total) times"
image_request "What color is the heart?" "$balloons" ',"stream":true,"stream_options":{"include_usage":true}'
chat 200 'data: [DONE]' "@$work/request"
[ "$(streamed "$work/reply")" = "$expected" ] || fail "streamed '$(streamed "$work/reply")', expected '$expected'"
grep -q '"choices":\[\],"usage":{"prompt_tokens":' "$work/reply" || fail "no usage in the stream"
grep -qi "^content-type: text/event-stream" "$work/headers" || fail "a stream of another type"
image_request "What color is the heart?" "$balloons" ',"gates":true,"traversal":"all","max_tokens":10'
chat 200 '"gates":{"layers":4,"tokens":64,' "@$work/request"
chat 200 '"finish_reason":"length"' "{$hello,\"max_tokens\":3}"
grep -q '"completion_tokens":3,' "$work/reply" || fail "not three tokens"
chat 200 '"index":2' "{$hello,\"n\":3,\"temperature\":1,\"seed\":7,\"max_tokens\":20}"
cp "$work/reply" "$work/first"
chat 200 '"index":2' "{$hello,\"n\":3,\"temperature\":1,\"seed\":7,\"max_tokens\":20,\"cache_prompt\":false}"
[ "$(sed 's/.*"choices"//; s/"usage".*//' "$work/first")" = "$(sed 's/.*"choices"//; s/"usage".*//' "$work/reply")" ] ||
    fail "the same seed gave other texts"
chat 200 '"logprobs":{"content":[{"token":"' "{$hello,\"logprobs\":true,\"top_logprobs\":2,\"max_tokens\":2}"
chat 200 '"finish_reason"' "{$hello,\"max_tokens\":1,\"user\":\"a\",\"metadata\":{},\"store\":false,\"service_tier\":\"auto\",\"model\":\"trol-tiny-internlm2\",\"tools\":null}"

# ---- null is the same as nothing, and parts of text are text, in any message
chat 200 '"finish_reason"' "{$hello,\"max_tokens\":1,\"stop\":null,\"seed\":null,\"n\":null,\"response_format\":null,\"stream_options\":null,\"top_p\":0}"
chat 200 '"finish_reason"' '{"max_tokens":1,"messages":[{"role":"developer","content":[{"type":"text","text":"Be brief."}]},{"role":"user","name":null,"content":"Hello"},{"role":"assistant","content":[{"type":"text","text":"Hi"}],"refusal":null,"tool_calls":[],"annotations":[]},{"role":"user","content":"Again"}]}'

# ---- a stop string, and penalties and biases that are seen
chat 200 '"finish_reason":"stop"' '{"messages":[{"role":"user","content":"What is a circle?"}],"stop":["e"],"max_tokens":50}'
content "$work/reply" | grep -q e && fail "a stop string was shown"
chat 200 '"finish_reason":"length"' "{$hello,\"max_tokens\":3,\"logit_bias\":{\"70\":100}}"
ask 200 '"content":"' detokenize -d '{"tokens":[70,70,70]}'

# ---- beams
chat 200 '"finish_reason":' "{$hello,\"beams\":3,\"max_tokens\":20}"
best=$(content "$work/reply")
[ -n "$best" ] || fail "an empty best beam"
chat 200 "$best" "{$hello,\"beams\":3,\"max_tokens\":20,\"cache_prompt\":false}"
chat 400 'beams are searched without stream' "{$hello,\"beams\":3,\"stream\":true}"

# ---- answers in a form
schema='{"type":"object","properties":{"color":{"type":"string","maxLength":8},"round":{"type":"boolean"}},"required":["color","round"],"additionalProperties":false}'
format="\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"shape\",\"strict\":true,\"schema\":$schema}}"
for more in '' ',"temperature":1,"seed":4' ',"max_tokens":28' ',"n":3,"temperature":2,"seed":1'; do
    chat 200 '"finish_reason":"stop"' "{$hello,$format$more}"
    grep -oE '"content":"([^"\\]|\\.)*"' "$work/reply" | sed 's/\\n/ /g; s/\\"/"/g' >"$work/contents"
    [ -s "$work/contents" ] || fail "no answer in the schema's form"
    grep -vE '^"content":"[{] *"color": *"[^"]*", *"round": *(true|false) *[}]"$' "$work/contents" && fail "not in the schema's form"
done
chat 200 '"content":"' "{$hello,\"response_format\":{\"type\":\"json_object\"},\"max_tokens\":20}"
chat 200 '"content":"blue blue"' "{$hello,\"grammar\":\"root ::= \\\"blue\\\" (\\\" blue\\\")\"}"
chat 200 '"content":"{' "{$hello,\"json_schema\":$schema}"
chat 400 'max_tokens is 2, but no answer in the form' "{$hello,$format,\"max_tokens\":2}"
chat 422 '"param":"json_schema"' "{$hello,\"json_schema\":{\"type\":\"object\",\"properties\":{\"a\":{\"contains\":{}}}}}"
chat 422 '"param":"grammar"' "{$hello,\"grammar\":\"root ::= (\"}"
chat 400 'response_format.json_schema.schema and grammar are both given' "{$hello,$format,\"grammar\":\"root ::= \\\"a\\\"\"}"

# ---- a conversation goes on from its first turn
chat 200 '"finish_reason"' '{"messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"Hello"}],"max_tokens":8}'
turn=$(content "$work/reply")
chat 200 '"finish_reason"' "{\"messages\":[{\"role\":\"system\",\"content\":\"Be brief.\"},{\"role\":\"user\",\"content\":\"Hello\"},{\"role\":\"assistant\",\"content\":\"$turn\",\"refusal\":null},{\"role\":\"user\",\"content\":\"Again\"}],\"max_tokens\":8}"
grep -q '"cached_tokens":0' "$work/reply" && fail "the second turn reused nothing"

# ---- refused by name
while IFS='|' read -r status text json; do chat "$status" "$text" "$json"; done <<LIST
400|it is empty, expected a JSON object|
400|this is not JSON|{"messages":[}
400|the JSON is an array, expected an object|[1]
400|has the field user twice|{"user":"a","user":"b"}
400|has a NUL character|{"user":"a\\u0000b"}
400|messages is missing|{}
400|messages is empty|{"messages":[]}
400|messages is a string, expected an array|{"messages":"hello"}
400|messages[0] is a number, expected an object|{"messages":[1]}
400|messages[0].role is \"robot\", expected system, user, assistant or developer|{"messages":[{"role":"robot","content":"a"}]}
400|messages[0].content is missing|{"messages":[{"role":"user"}]}
400|the last message is from the assistant|{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}
400|messages[0] has the field name|{"messages":[{"role":"user","name":"x","content":"a"}]}
400|the field tools|{$hello,"tools":[]}
400|the field functions|{$hello,"functions":[]}
400|the field modalities|{$hello,"modalities":["text"]}
400|the field audio|{$hello,"audio":{}}
400|the field colour|{$hello,"colour":"red"}
400|temperature is a string, expected a number|{$hello,"temperature":"1"}
400|temperature is -1, expected 0|{$hello,"temperature":-1}
400|max_tokens is 1.5, expected an integer|{$hello,"max_tokens":1.5}
400|max_tokens is 0, expected|{$hello,"max_tokens":0}
400|n is 4, but 3 are answered at once|{$hello,"n":4}
400|top_logprobs needs|{$hello,"top_logprobs":1}
400|logit_bias names token 999999|{$hello,"logit_bias":{"999999":1}}
400|logit_bias has the key|{$hello,"logit_bias":{"a":1}}
400|traversal is \"sideways\"|{$hello,"traversal":"sideways"}
400|without traversal there are no gates|{$hello,"gates":true,"traversal":"off"}
400|stream_options needs|{$hello,"stream_options":{"include_usage":true}}
404|there is no model \"gpt-4o\" here|{$hello,"model":"gpt-4o"}
400|expected a data: URL|{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"http://127.0.0.1/a.png"}}]}]}
400|expected a data: URL|{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"file:///etc/passwd"}}]}]}
400|is not valid base64|{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,a*b="}}]}]}
400|expected text or image_url|{"messages":[{"role":"user","content":[{"type":"input_audio","input_audio":{}}]}]}
422|"error"|{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}]}]}
LIST
printf '{"messages":[{"role":"user","content":"%s"}]}' "$(printf 'heart %.0s' {1..60000})" >"$work/long"
chat 400 'context_length_exceeded' "@$work/long"
{ printf '{"user":"'; head -c 22000000 /dev/zero | tr '\0' 'a'; printf '"}'; } >"$work/huge"
chat 413 'longer than 20 MiB' "@$work/huge"
ask 413 'longer than 20 MiB' v1/chat/completions -H 'Expect:' --data-binary "@$work/huge"
ask 413 'longer than 20 MiB' v1/chat/completions -H 'Expect:' -H 'Transfer-Encoding: chunked' --data-binary "@$work/huge"
{ printf '{"user":['; head -c 250000 /dev/zero | sed 's/\x0/1,/g'; printf '1]}'; } >"$work/many"
chat 413 'more than 200000 values' "@$work/many"
printf '{"user":"\xff"}' >"$work/bytes"
chat 400 'not valid UTF-8' "@$work/bytes"

# ---- bodies in other shapes
printf '{%s,"max_tokens":1}' "$hello" >"$work/request"
chat 200 '"finish_reason"' "@$work/request"
ask 200 '"finish_reason"' v1/chat/completions -H 'Transfer-Encoding: chunked' --data-binary "@$work/request"
ask 200 '"finish_reason"' v1/chat/completions -0 --data-binary "@$work/request"
ask 200 '"finish_reason"' v1/chat/completions -H 'Expect: 100-continue' -H 'Content-Type: text/plain' --data-binary "@$work/request"
gzip -c "$work/request" >"$work/packed"
ask 415 'the encoding gzip, expected none' v1/chat/completions -H 'Content-Encoding: gzip' --data-binary "@$work/packed"
ask 400 'the length of its body in two ways' v1/chat/completions -H 'Transfer-Encoding: chunked' -H 'Content-Length: 3' --data-binary "@$work/request"
grep -qi '^connection: close' "$work/headers" || fail "a connection stays open whose next request may be another's"

# ---- other sites' pages
ask 403 'not known as' v1/models -H 'Host: evil.example'
ask 403 'pages from' v1/models -H 'Origin: http://evil.example'
ask 200 '"object":"list"' v1/models -H "Origin: ${url%/}"

# ---- a client that leaves gives its session back within 200 ms: while it answers, in its prompt, and in the queue
# in_use: how many sessions are in use, and how many requests wait. Without a process of its own, for it is timed.
in_use() {
    local line port=${url##*:} busy=? waiting=?
    exec 8<>"/dev/tcp/127.0.0.1/${port%/}"
    printf 'GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n' >&8
    while read -r -u 8 line; do
        case $line in
        "trol_slots_busy "*) busy=${line##* } ;;
        "trol_requests_waiting "*) waiting=${line##* } ;;
        esac
    done
    exec 8>&-
    echo "$busy busy, ${waiting%$'\r'} waiting"
}
within=200
[ -z "${TROL_SANITIZE:-}" ] || within=2000
endless="{\"messages\":[{\"role\":\"user\",\"content\":\"Hello\"}],\"logit_bias\":{\"70\":100},\"cache_prompt\":false"
# until METRIC VALUE: waits for up to ten seconds.
until_metric() {
    local i
    for ((i = 0; i < 500; i++)); do [ "$(metric "$1")" != "$2" ] || return 0; sleep 0.02; done
    fail "$1 is $(metric "$1"), expected $2"
}
# leaves METRIC VALUE LEFT JSON: a client goes once the metric has the value; the milliseconds until in_use is LEFT, in
# $took. It is killed, and has no time for a farewell.
leaves() {
    curl -sN -m 60 "${url}v1/chat/completions" --data-binary "$4" >/dev/null &
    local client=$! start
    until_metric "$1" "$2"
    start=${EPOCHREALTIME/[.,]/}
    { kill -KILL $client && wait $client; } 2>/dev/null || true
    until
        took=$(((${EPOCHREALTIME/[.,]/} - start) / 1000))
        [ "$(in_use)" = "$3" ]
    do
        [ $took -lt 10000 ] || fail "after $took ms: $(in_use), expected $3"
    done
}
# is_quick ARGUMENT-OF-LEAVES ...: it takes less than 200 ms, once in three times at least: other programs run, too.
is_quick() {
    local i
    for i in 1 2 3; do
        leaves "$@"
        [ $took -ge $within ] || return 0
    done
    fail "a session was still in use after $took ms ($1 $2)"
}
idle="0 busy, 0 waiting"
is_quick answers_running 1 "$idle" "$endless,\"stream\":true}"
is_quick answers_running 1 "$idle" "$endless}"
printf '{"cache_prompt":false,"messages":[{"role":"user","content":"%s"}]}' "$(printf 'heart %.0s' {1..40000})" >"$work/prefill"
is_quick slots_busy 1 "$idle" "@$work/prefill"
# a search that has no end soon: the model answers so many hearts with green green green
printf '{"cache_prompt":false,"beams":8,"max_tokens":30000,"messages":[{"role":"user","content":"%s"}]}' "$(printf 'heart %.0s' {1..2000})" >"$work/search"
is_quick answers_running 1 "$idle" "@$work/search"
# in the queue, behind three that answer
clients=()
for ((i = 0; i < 3; i++)); do
    curl -sN -m 60 "${url}v1/chat/completions" -d "$endless,\"stream\":true}" >/dev/null &
    clients+=($!)
done
until_metric answers_running 3
is_quick requests_waiting 1 "3 busy, 0 waiting" "$endless}"
{ kill -KILL "${clients[@]}" && wait "${clients[@]}"; } 2>/dev/null || true
until_metric slots_busy 0
# long prompts beside an answer leave one after the other, and stop its steps: to the last digit it stays what it is
long_request="$endless,\"logprobs\":true,\"max_tokens\":$([ -n "${TROL_SANITIZE:-}" ] && echo 800 || echo 4000)}"
chat 200 '"finish_reason":"length"' "$long_request"
cp "$work/reply" "$work/alone"
curl -sN -m 60 "${url}v1/chat/completions" -d "$long_request" >"$work/beside" &
answer=$!
until_metric answers_running 1
for i in 1 2 3; do leaves slots_busy 2 "1 busy, 0 waiting" "@$work/prefill"; done
[ "$(metric largest_piece)" -ge 8 ] || fail "no piece of a prompt ran beside an answer"
wait $answer || fail "an answer was lost as others left"
[ "$(sed 's/.*"choices"//; s/"usage".*//' "$work/alone")" = "$(sed 's/.*"choices"//; s/"usage".*//' "$work/beside")" ] ||
    fail "an answer changed as others left"
[ "$(metric 'requests_total{outcome="cancelled"}')" -ge 9 ] || fail "too few requests count as cancelled"

# ---- a full queue
clients=()
for ((client = 0; client < 7; client++)); do
    for ((i = 0; client == 3 && i < 500; i++)); do [ "$(metric answers_running)" != 3 ] || break; sleep 0.01; done
    curl -sN -m 60 "${url}v1/chat/completions" -d "$endless,\"stream\":true}" >/dev/null &
    clients+=($!)
done
for ((i = 0; i < 500; i++)); do [ "$(metric requests_waiting)" != 4 ] || break; sleep 0.01; done
chat 429 'too many requests are waiting' "{$hello}"
grep -qi "^retry-after: [0-9]" "$work/headers" || fail "429 without Retry-After"
{ kill -KILL "${clients[@]}" && wait "${clients[@]}"; } 2>/dev/null || true
until_metric slots_busy 0
chat 200 '"finish_reason"' "{$hello,\"max_tokens\":2}"

# ---- SIGTERM: what runs is finished, then it ends
curl -sN -m 60 "${url}v1/chat/completions" -d "{$hello,\"stream\":true,\"logit_bias\":{\"70\":100},\"max_tokens\":300}" >"$work/drained" &
client=$!
for ((i = 0; i < 100; i++)); do [ "$(metric answers_running)" = 0 ] || break; sleep 0.01; done
kill -TERM "$pid"
wait $client || fail "the running answer was not finished: $(tail -c 200 "$work/drained")"
grep -qF 'data: [DONE]' "$work/drained" || fail "the running answer was cut"
wait "$pid" || fail "the server ended with $?: $(tail -n 3 "$work/main.err")"

# ---- requests that --drain leaves too little time, running or queued, get an error
start short -m "$model" --parallel 1 --drain 1 -c 50000
curl -sN -m 60 "${url}v1/chat/completions" -d "$endless,\"stream\":true}" >"$work/cut" &
clients=($!)
until_metric answers_running 1
for i in 1 2 3; do
    curl -s -m 60 -w '%{http_code}' "${url}v1/chat/completions" -d "{$hello}" >"$work/queued$i" &
    clients+=($!)
done
until_metric requests_waiting 3
kill -TERM "$pid"
wait "${clients[@]}" || fail "a connection was cut without a word"
tail -n 2 "$work/cut" | grep -qF 'data: {"error":{"message":"the server is being shut down"' || fail "a stream ended in $(tail -n 2 "$work/cut")"
for i in 1 2 3; do
    grep -q '^{"error":{"message":"the server is being shut down".*503$' "$work/queued$i" || fail "queued: $(cat "$work/queued$i")"
done
wait "$pid" || fail "the server ended with $?"

# ---- pictures outlast the server
start first -m "$model" --cache-dir "$work/cache"
image_request "What color is the heart?" "$balloons" ''
chat 200 "$expected" "@$work/request"
kill -TERM "$pid"
wait "$pid" || fail "the server ended with $?"
[ -n "$(ls "$work/cache")" ] || fail "the cache's folder is empty"
start second -m "$model" --cache-dir "$work/cache"
chat 200 "$expected" "@$work/request"
kill -TERM "$pid"
wait "$pid" || fail "the server ended with $?"

# ---- a request that does not arrive is not waited for
start slow -m "$model" --timeout 2
port=${url##*:}
port=${port%/}
for sent in 'GET / HT' 'POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{'; do
    exec 9<>"/dev/tcp/127.0.0.1/$port"
    printf "$sent" >&9
    SECONDS=0
    timeout 20 cat <&9 >/dev/null || true
    [ "$SECONDS" -le 8 ] || fail "half a request was waited for $SECONDS s"
    exec 9>&-
done
( # a byte a second keeps the connection busy, but not forever
    trap '' PIPE
    exec 9<>"/dev/tcp/127.0.0.1/$port"
    for ((i = 0; i < 12; i++)); do printf 'G' >&9 || exit 0; sleep 1; done 2>/dev/null
    exit 1
) || fail "a request that trickles in was waited for"
ask 200 '"ok"' health
kill -TERM "$pid"
wait "$pid" || fail "the server ended with $?"

# ---- keys and values in q8: trol-cli's answer, again from what was reused, and half of the memory
sessions() { sed -n 's/.*sessions of [0-9]* tokens \([0-9]*\) MiB.*/\1/p' "$work/$1.err"; }
start q8 -m "$model" --parallel 3 --queue 4 -c 50000 --cache-type q8
[ $((100 * $(sessions q8))) -le $((54 * $(sessions main))) ] || fail "q8: $(sessions q8) MiB, f16 $(sessions main)"
image_request "What color is the heart?" "$balloons" ''
expected=$(cli --image "$balloons" -p "What color is the heart?" --cache-type q8)
for i in 1 2; do
    chat 200 '"finish_reason":"stop"' "@$work/request"
    [ "$(content "$work/reply")" = "$expected" ] || fail "q8: '$(content "$work/reply")', trol-cli '$expected'"
done
grep -q '"cached_tokens":0' "$work/reply" && fail "q8: the second request reused nothing"
kill -TERM "$pid"
wait "$pid" || fail "the q8 server ended with $?"

# ---- keys, another name
printf 'first-key\nsecond-key\n' >"$work/keys"
start keys -m "$model" --api-key-file "$work/keys" --alias painter --cors 'https://app.example'
ask 200 '"ok"' health
ask 401 'this server asks for a key' v1/models
grep -qi '^www-authenticate: Bearer' "$work/headers" || fail "401 without WWW-Authenticate"
ask 401 "is not one of this server's" v1/models -H 'Authorization: Bearer first-ke'
ask 401 "is not one of this server's" v1/models -H 'Authorization: Bearer first-keys'
ask 401 "is not one of this server's" v1/models -H "Authorization: Bearer $(head -c 300 /dev/zero | tr '\0' 'a')"
ask 200 '"id":"painter"' v1/models -H 'Authorization: Bearer second-key'
ask 200 '"id":"painter"' v1/models -H 'Authorization: Bearer first-key' -H 'Origin: https://app.example'
grep -qi '^access-control-allow-origin: https://app.example' "$work/headers" || fail "no CORS header"
kill -TERM "$pid"
wait "$pid" || fail "the idle server ended with $?"
