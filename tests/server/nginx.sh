#!/usr/bin/env bash
# trol-server behind nginx with the configuration that comes with it: TLS, keys, uploads, streams that arrive as they are
# written, the page's own origin. TROL_BUILD and TROL_SOURCE as in the other tests.
set -euo pipefail
. "$TROL_SOURCE/tests/server/common.sh"

printf 'a-key\n' >"$work/keys"
start behind -m "$TROL_SOURCE/models/trol-tiny-internlm2" --api-key-file "$work/keys" --allow-host trol.example -q
openssl req -x509 -newkey rsa:2048 -nodes -keyout "$work/key.pem" -out "$work/cert.pem" -days 2 -subj /CN=trol.example \
    -addext subjectAltName=DNS:trol.example 2>/dev/null
behind=${url#http://}
for port in 18443 28443 38443; do
    sed -e "s#listen 443#listen $port#; s#/etc/letsencrypt/live/trol.example/fullchain.pem#$work/cert.pem#" \
        -e "s#/etc/letsencrypt/live/trol.example/privkey.pem#$work/key.pem#; s#127.0.0.1:8080;#${behind%/};#" \
        "$TROL_SOURCE/tools/server/nginx.conf" >"$work/site.conf"
    for kind in body proxy fastcgi uwsgi scgi; do echo "${kind/body/client_body}_temp_path $work/$kind;"; done >"$work/paths"
    printf 'user %s; pid %s/nginx.pid; error_log %s/nginx.log; daemon off; master_process off; events {} http { access_log off; include %s/paths; include %s/site.conf; }' \
        "$(id -un)" "$work" "$work" "$work" "$work" >"$work/nginx.conf"
    nginx -e "$work/nginx.log" -c "$work/nginx.conf" &
    pids+=($!)
    for ((i = 0; i < 50; i++)); do
        ! curl -sf -m 5 --resolve "trol.example:$port:127.0.0.1" --cacert "$work/cert.pem" "https://trol.example:$port/health" >/dev/null || break 2
        kill -0 "${pids[-1]}" 2>/dev/null || break
        sleep 0.1
    done
done
[ "$i" -lt 50 ] || fail "nginx did not start: $(tail -n 3 "$work/nginx.log")"
url=https://trol.example:$port/
through=(--resolve "trol.example:$port:127.0.0.1" --cacert "$work/cert.pem" -H "Authorization: Bearer a-key")

ask 401 'asks for a key' v1/models "${through[@]:0:4}"
ask 200 'trol-tiny' v1/models "${through[@]}"
ask 200 'trol-tiny' v1/models "${through[@]}" -H "Origin: ${url%/}"
ask 403 'pages from' v1/models "${through[@]}" -H 'Origin: https://another.example'
ask 200 '<!doctype html>' '' "${through[@]}"
grep -qi '^content-security-policy' "$work/headers" || fail "the page's policy was lost"
head -c 14000000 /dev/zero | base64 -w 0 >"$work/zeros"
{
    printf '{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,'
    cat "$work/zeros"
    printf '"}}]}]}'
} >"$work/request"
ask 422 'known format' v1/chat/completions "${through[@]}" --data-binary "@$work/request"
# the first word of a long answer arrives while the rest is being written
curl -sN -m 60 "${through[@]}" "${url}v1/chat/completions" \
    -d '{"stream":true,"max_tokens":3000,"logit_bias":{"70":100},"messages":[{"role":"user","content":"Hello"}]}' >"$work/stream" &
client=$!
for ((i = 0; i < 1000; i++)); do [ "$(grep -c '"content":' "$work/stream" || true)" -lt 3 ] || break; sleep 0.01; done
grep -qF '[DONE]' "$work/stream" && fail "the stream came as a whole"
wait $client || fail "the stream was cut"
grep -qF 'data: [DONE]' "$work/stream" || fail "the stream has no end"
echo "nginx passes streams, uploads and keys on as configured"
