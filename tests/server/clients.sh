#!/usr/bin/env bash
# clients.sh FOLDER: real clients against trol-server: the openai packages for Python and JavaScript, and the page in
# Chromium. They come from PyPI, npm and Debian, into FOLDER, which is outside the source tree; a client that is missing
# on this machine is named and skipped, or fails where CI=true. TROL_BUILD and TROL_SOURCE as in the other tests.
set -euo pipefail
left_out() {
    echo "skipped: $*"
    [ "${CI:-}" != true ]
}
folder=$1
. "$TROL_SOURCE/tests/server/common.sh"
mkdir -p "$folder"
clients=$TROL_SOURCE/tests/server/clients
image=$TROL_SOURCE/models/pictures/balloons.png

# Many at once, with a `--queue` that holds them all.
start load -m "$TROL_SOURCE/models/trol-tiny-internlm2" --parallel 8 -c 2048 --queue 200 -q
timeout 300 python3 "$TROL_SOURCE/tests/server/load.py" "$url" "$TROL_SOURCE/models/pictures" 200 "${LOAD_SECONDS:-30}" "$pid"
kill -TERM "$pid"
wait "$pid" || fail "the server ended with $? after the load"

# What nobody sends by mistake.
start attack -m "$TROL_SOURCE/models/trol-tiny-internlm2" --parallel 3 -c 2000 --timeout 3 --max-connections 512 -q
timeout 300 python3 "$TROL_SOURCE/tests/server/attack.py" "$url" "$pid"
kill -TERM "$pid"
wait "$pid" || fail "the server ended with $? after the attack"

if command -v nginx >/dev/null; then
    timeout 120 bash "$TROL_SOURCE/tests/server/nginx.sh"
else
    left_out "nginx (Debian package nginx-light)"
fi

start clients -m "$TROL_SOURCE/models/trol-tiny-internlm2" --parallel 8 -c 20000 -q
if command -v npm >/dev/null; then
    cp "$clients/openai_client.mjs" "$folder/"
    (cd "$folder" && [ -d node_modules/axe-core ] || npm install --silent --no-fund --no-audit openai zod axe-core)
    (cd "$folder" && timeout 300 node openai_client.mjs "$url" "$image")
    export AXE=$folder/node_modules/axe-core/axe.min.js
else
    left_out "the JavaScript client, and what the page is for screen readers (Debian package npm)"
fi
if [ -x "$folder/python/bin/python" ] || python3 -m venv "$folder/python" 2>/dev/null; then
    "$folder/python/bin/pip" -q --disable-pip-version-check install openai pydantic selenium
    timeout 300 "$folder/python/bin/python" "$clients/openai_client.py" "$url" "$image"
    if [ -x /usr/bin/chromium ] && [ -x /usr/bin/chromedriver ]; then
        TROL_SERVER=$server timeout 400 "$folder/python/bin/python" "$clients/page.py" "$url" "$image"
    else
        left_out "the page (Debian packages chromium and chromium-driver)"
    fi
else
    left_out "Python's clients (Debian package python3-venv)"
fi
