# Sourced by the scripts test-*.sh: what they test with, a folder of their own, and how they fail.
case=$TROL_SOURCE/tests/reference/e2e-internlm2 # weights are random, and so are its answers
model=$TROL_SOURCE/models/trol-tiny-internlm2
pictures=$TROL_SOURCE/models/pictures
work=$(mktemp -d -p "$TROL_BUILD")
trap 'rm -rf "$work"' EXIT
fail() { echo "FAILED: $*"; exit 1; }

# expect STATUS TEXT ARGUMENT ...: $tool ends with STATUS and prints TEXT on standard error ($work/printed); standard
# output is in $work/out.
expect() {
    local expected=$1 text=$2 status=0 name=${tool##*/}
    shift 2
    "$tool" "$@" >"$work/out" 2>"$work/printed" </dev/null || status=$?
    [ $status = "$expected" ] || fail "$name $* ended with $status, expected $expected: $(cat "$work/printed")"
    grep -qF -- "$text" "$work/printed" || fail "$name $* did not print '$text': $(cat "$work/printed")"
    [ $status != 2 ] || [ ! -s "$work/out" ] || fail "$name $* wrote to standard output"
}

# until_written FILE: waits until a program in the background has written something to the file.
until_written() {
    for _ in $(seq 500); do
        [ -s "$1" ] && return
        sleep 0.02
    done
}
