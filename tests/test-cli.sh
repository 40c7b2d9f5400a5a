#!/usr/bin/env bash
# trol-cli: answers of the reference questions, where input comes from and output goes to, refusals and exit statuses,
# ^C.
set -euo pipefail

cli=$TROL_BUILD/trol-cli
tool=$cli
. "$TROL_SOURCE/tests/common.sh"
image=$case/pictures/photo.png

# ---- bad usage: status 2 and the flag's name
expect 2 "unknown option --nonsense" --nonsense
expect 2 "unknown option -x" -x 3
expect 2 "-p needs a value" -m "$case" -p
expect 2 '--n-predict is "5x"' -m "$case" -p a -n 5x
expect 2 '--threads is "0"' -m "$case" -p a -t 0
expect 2 '--threads is ""' -m "$case" -p a --threads=
expect 2 '--ctx-size is "99999999999999999999"' -m "$case" -p a -c 99999999999999999999
expect 2 '--temp is "nan"' -m "$case" -p a --temp nan
expect 2 "expected prompt, all or off" -m "$case" -p a --traversal both
expect 2 "--raw takes no value" -m "$case" -p a --raw=1
expect 2 "unexpected argument more" -m "$case" -p a more
expect 2 "there is no question" -m "$case"
expect 2 "only one of" -m "$case" -p a --tokens b
expect 2 "--system cannot be combined with it" -m "$case" -p a --raw --system b
expect 2 "read only once" -m "$case" -p - --image -
expect 2 "name the same file" -m "$case" -p a --logits "$work/a" --prefill-logits "$work/a"
expect 2 '--logits is "", expected a name' -m "$case" -p a --logits ''
expect 2 '--image is ""' -m "$case" -p a --image ''
expect 2 "unknown option --?[31m" $'--\e[31m'

# ---- failures: status 1 and one sentence
expect 1 "/nowhere" -m /nowhere -p a
expect 1 "none.png cannot be opened" -m "$case" -p a --image "$work/none.png"
expect 1 "config.json" -m "$case" -p a --image "$case/config.json"
expect 1 "UTF-8" -m "$case" -p $'a\xff'
expect 1 "does not fit the context" -m "$case" -p a -c 8
expect 1 "number of pictures is 0" -m "$case" -p "a <image>"
expect 1 "cannot be written" -m "$case" -p a -n 1 --logits "$work/none/a.npy"
echo "1 2 999999" >"$work/tokens"
expect 1 "$work/tokens: token 3 is 999999, expected 0 to" -m "$case" --tokens "$work/tokens"
printf 'What \xff' >"$work/prompt"
expect 1 "$work/prompt: byte 6 is not valid UTF-8" -m "$case" --prompt-file "$work/prompt"
head -c 3000000 /dev/zero | tr '\0' x >"$work/prompt"
expect 1 "3000000 bytes of text" -m "$case" --prompt-file "$work/prompt"
expect 1 'the text has 0 "<image>"' -m "$case" --raw -p a --image "$image"
head -c 3000 "$image" >"$work/cut.png"
expect 1 "cut.png: the PNG is cut short" -m "$case" -p a --image "$work/cut.png"
[ -z "$(find "$work" -name '*.npy*')" ] || fail "left behind: $(ls "$work")"

# ---- damaged pictures ----
# A JPEG that ends in the middle, with an end marker: decoded, with one notice.
jpeg=$TROL_SOURCE/tests/reference/pictures/420.jpg
{ head -c 1300 "$jpeg"; printf '\377\331'; } >"$work/damaged.jpg"
"$cli" -m "$case" --image "$work/damaged.jpg" -p a -n 1 --ignore-eos >"$work/out" 2>"$work/printed"
[ "$(grep -c "damaged.jpg: the JPEG is damaged (a part of its data ends too early)" "$work/printed")" = 1 ] || fail "damaged: $(cat "$work/printed")"
"$cli" -m "$case" --image - -p a -n 1 --ignore-eos <"$work/damaged.jpg" >"$work/out" 2>"$work/printed"
[ "$(grep -c "standard input: the JPEG is damaged" "$work/printed")" = 1 ] || fail "damaged: $(cat "$work/printed")"
"$cli" -m "$case" --image "$jpeg" -p a -n 1 --ignore-eos >"$work/out" 2>"$work/printed"
! grep -q damaged "$work/printed" || fail "not damaged: $(cat "$work/printed")"
head -c 1300 "$jpeg" >"$work/cut.jpg"
expect 1 "cut.jpg: the JPEG is cut short" -m "$case" -p a --image "$work/cut.jpg"

# ---- the same answer, wherever the input comes from
answer=$("$cli" -m "$case" --image "$image" -p "What is it?" -n 8 --quiet)
[ -n "$answer" ] || fail "no answer"
same() {
    [ "$(cat "$work/again")" = "$answer" ] || fail "$1: $(cat "$work/again"), not $answer"
}
echo "What is it?" | "$cli" -m "$case" --image "$image" -p - -n 8 --quiet >"$work/again"
same "the prompt from standard input"
printf 'What is it?\r\n' >"$work/prompt"
"$cli" -m "$case" --image="$image" --prompt-file "$work/prompt" -n 8 -q >"$work/again"
same "the prompt from a file"
"$cli" -m "$case" --image - -p "What is it?" -n 8 -q -t 1 <"$image" >"$work/again"
same "the picture from standard input, one thread"
"$cli" -m "$case" --image "$image" -p "What is it?" -n 8 -q --lookup 2 >"$work/again"
same "with prompt lookup"
"$cli" -m "$case" --image "$image" -p "What is it?" -n 8 --stats >"$work/again" 2>"$work/printed"
same "with --stats"
grep -q "^prompt  *[1-9]" "$work/printed" || fail "--stats: $(cat "$work/printed")"
for line in "prompt  *[1-9][0-9]" "prompt  *1 "; do
    "$cli" -m "$case" --image "$image" -p "What is it?" -n 8 --stats --session "$work/session" >"$work/again" 2>"$work/printed"
    same "with --session"
    grep -q "^$line" "$work/printed" || fail "--session: $(cat "$work/printed")"
done
expect 0 "in another way" -m "$case" --type q8 --image "$image" -p "What is it?" -n 8 --session "$work/session"
# keys and values in q8: the same answer on any number of threads and from a saved session, at half of the memory
q8() { "$cli" -m "$case" --image "$image" -p "What is it?" -n 8 --cache-type q8 "$@"; }
q8 -q -t 1 >"$work/q8"
[ -s "$work/q8" ] || fail "--cache-type q8: no answer"
for i in 1 2; do
    q8 -t 2 --stats --session "$work/q8-session" >"$work/again" 2>"$work/q8-printed"
    cmp "$work/again" "$work/q8" || fail "--cache-type q8 --session: another answer"
done
grep -q "^prompt  *1 " "$work/q8-printed" || fail "--cache-type q8 --session: $(cat "$work/q8-printed")"
expect 0 "other parameters" -m "$case" --image "$image" -p "What is it?" -n 8 --session "$work/q8-session"
long=$(printf 'word %.0s' {1..1000})
kept() {
    "$cli" -m "$TROL_SOURCE/models/trol-tiny-internlm2" -p "$long" -n 1 --stats --cache-type "$1" 2>&1 >/dev/null |
        sed -n 's/^memory: keys and values \([0-9.]*\) MB.*/\1/p'
}
awk -v q8="$(kept q8)" -v f16="$(kept f16)" 'BEGIN { exit !(f16 > 0.5 && q8 > 0.45 * f16 && q8 < 0.58 * f16) }' ||
    fail "q8 keeps $(kept q8) MB, f16 $(kept f16) MB"
expect 2 "--cache-type is" -m "$case" -p a --cache-type q4
for line in "1 picture encoded, 0 from the cache" "0 pictures encoded, 1 from the cache"; do
    "$cli" -m "$case" --image "$image" -p "What is it?" -n 8 --stats --cache-dir "$work/cache/pictures" >"$work/again" 2>"$work/printed"
    same "with --cache-dir"
    grep -q "^$line" "$work/printed" || fail "--cache-dir: $(cat "$work/printed")"
done
[ "$(tail -c 1 "$work/again" | od -An -c | tr -d ' ')" = '\n' ] || fail "no line break at the end"

# ---- the whole template as a raw prompt gives the same answer
system='You are AI model created by Byung-Kwan Lee, Ph.D. candidate, KAIST EE, of which AI model name is TroL (Traversal of'
system+=" Layers). You must give helpful, detailed, and polite answers to the user's questions"
end='[UNUSED_TOKEN_145]'
begin='[UNUSED_TOKEN_146]'
raw="<s>${begin}system"$'\n'"$system$end"$'\n'"${begin}user"$'\n<image>\n'"What is it?$end"$'\n'"${begin}assistant"$'\n'
"$cli" -m "$case" --image "$image" --raw -p "$raw" -n 8 -q >"$work/again"
same "raw"

# ---- arrays: shapes, and rows that choose the tokens
"$cli" -m "$case" -p "What is it?" -n 6 --ignore-eos -q --logits "$work/l.npy" --prefill-logits "$work/p.npy" >/dev/null
head -c 192 "$work/l.npy" | grep -aq "'shape': (6, 6[0-9]*,)" || fail "logits: $(head -c 128 "$work/l.npy")"
head -c 192 "$work/p.npy" | grep -aq "'shape': (1[0-9]*, 6[0-9]*,)" || fail "prefill logits: $(head -c 128 "$work/p.npy")"
"$cli" -m "$case" -p "What is it?" -n 0 -q --prefill-logits "$work/p0.npy" >"$work/out"
[ ! -s "$work/out" ] || fail "-n 0 wrote an answer"
cmp "$work/p.npy" "$work/p0.npy" || fail "-n 0: other prefill logits"

touch "$work/real.npy"
ln -s real.npy "$work/link.npy"
"$cli" -m "$case" -p "What is it?" -n 0 -q --prefill-logits "$work/link.npy"
[ -L "$work/link.npy" ] && cmp "$work/p.npy" "$work/real.npy" || fail "a link was replaced instead of its file"

# ---- sampling: seeds, penalties, bias, stop strings, log-probabilities
expect 2 '--logit-bias is "5"' -m "$case" -p a --logit-bias 5
expect 2 '--logit-bias is "5+inf"' -m "$case" -p a --logit-bias 5+inf
expect 2 '--logit-bias is "-5+1"' -m "$case" -p a --logit-bias -5+1
expect 2 '--min-p is "2"' -m "$case" -p a --min-p 2
expect 2 '--repeat-last-n is "-2"' -m "$case" -p a --repeat-last-n -2
expect 2 '--stop is ""' -m "$case" -p a --stop ""
expect 2 "name the same file" -m "$case" -p a --logits "$work/a" --logprobs "$work/a"
expect 1 "cannot be written" -m "$case" -p a -n 1 --logprobs "$work/none/a.jsonl"
sampled() { "$cli" -m "$case" -p "What is it?" -n 24 -q --temp 1.5 --top-k 50 --top-p 0.95 --min-p 0.001 "$@"; }
first=$(sampled --seed 5 -t 1)
[ "$(sampled --seed 5 -t 2)" = "$first" ] || fail "the same seed gives another text"
[ "$(sampled --seed 6)" != "$first" ] || fail "another seed gives the same text"
for flag in "--repeat-penalty 1.8" "--presence-penalty 2" "--frequency-penalty 2"; do
    [ "$(sampled --seed 5 --repeat-last-n -1 $flag)" != "$first" ] || fail "$flag changes nothing"
    [ "$(sampled --seed 5 --repeat-last-n 0 $flag)" = "$first" ] || fail "$flag counts with --repeat-last-n 0"
done
"$cli" -m "$case" -p "What is it?" -n 6 --ignore-eos -q --logprobs "$work/l.jsonl" --top-logprobs 3 >/dev/null
! command -v python3 >/dev/null || python3 - "$work/l.jsonl" <<'END' || fail "--logprobs: $(cat "$work/l.jsonl")"
import json, math, sys
lines = [json.loads(line) for line in open(sys.argv[1], encoding="utf-8")]
assert len(lines) == 6
for i, line in enumerate(lines):
    assert line["position"] == lines[0]["position"] + i and len(line["top"]) == 3
    assert line["top"][0] == {k: line[k] for k in ("token", "text", "bytes", "logprob")}  # greedy
    assert bytes(line["bytes"]).decode(errors="replace") == line["text"] or "\ufffd" in line["text"]
    assert sum(math.exp(t["logprob"]) for t in line["top"]) <= 1.000001
    assert line["logprob"] >= line["top"][1]["logprob"] >= line["top"][2]["logprob"]
END
token=$(head -n 1 "$work/l.jsonl" | grep -o '"token": [0-9]*' | head -n 1 | grep -o '[0-9]*')
"$cli" -m "$case" -p "What is it?" -n 1 --ignore-eos -q --logit-bias "$token-inf" --logprobs "$work/b.jsonl" >/dev/null
grep -q "\"token\": $token, .*\"top\": \[{\"token\": $token," "$work/b.jsonl" && fail "a banned token was chosen"
grep -q "\"top\": \[{\"token\": $token," "$work/b.jsonl" || fail "log-probabilities are not those of the raw logits"
"$cli" -m "$case" -p "What is it?" -n 1 --ignore-eos -q --logit-bias 7+1000 --logprobs "$work/b.jsonl" >/dev/null
grep -q "^{\"position\": [0-9]*, \"token\": 7," "$work/b.jsonl" || fail "--logit-bias 7+1000: $(cat "$work/b.jsonl")"
stop=${answer:2:3}
"$cli" -m "$case" --image "$image" -p "What is it?" -n 8 -q --stop "never" --stop "$stop" >"$work/out"
expected=${answer%%"$stop"*}
[ "$(cat "$work/out")" = "$(sed 's/[[:space:]]*$//' <<<"$expected")" ] || fail "--stop '$stop': $(cat "$work/out")"

# ---- flags that would change nothing
expect 2 "--parallel needs --batch" -m "$case" -p a --parallel 4
expect 2 "--length-penalty needs --beams" -m "$case" -p a --length-penalty=1
expect 2 "--top-logprobs needs --logprobs" -m "$case" -p a --top-logprobs 5
expect 2 "--top-p needs --temp" -m "$case" -p a --seed 0 --top-p 0.9
expect 2 "--top-k needs --temp" -m "$case" --chat --top-k 3
expect 2 "--repeat-last-n needs --repeat-penalty" -m "$case" -p a --temp 1 --repeat-last-n 64
expect 2 "--traversal-skip has no effect" -m "$case" -p a --traversal off --traversal-skip 0.5
expect 2 "--lookup cannot be combined with --traversal all" -m "$case" -p a --traversal all --lookup 2
"$cli" -m "$case" -p --seed -n 1 -q --temp 0 --top-k 3 --seed 1 >/dev/null || fail "a value that spells a flag; --temp 0"
"$cli" -m "$case" -p --seed -n 1 -q >/dev/null || fail "a value that spells a flag is not the flag"

# ---- beams
expect 2 '--beams is "65"' -m "$case" -p a --beams 65
expect 2 "cannot be combined with" -m "$case" -p a --beams 5 --temp 1
expect 2 "cannot be combined with" -m "$case" -p a --beams 5 --logprobs "$work/a"
expect 2 "--n-best needs --beams" -m "$case" -p a --n-best "$work/a"
expect 1 "cannot be written" -m "$case" -p a -n 2 --beams 2 --n-best "$work/none/a.jsonl"
[ "$("$cli" -m "$case" --image "$image" -p "What is it?" -n 8 -q --beams 1)" = "$answer" ] || fail "one beam is not greedy"
"$cli" -m "$case" --image "$image" -p "What is it?" -n 8 -q --beams 5 --length-penalty 0.5 --n-best "$work/n.jsonl" >"$work/out"
[ "$(wc -l <"$work/n.jsonl")" = 5 ] || fail "--n-best: $(cat "$work/n.jsonl")"
[ "$(head -n 1 "$work/n.jsonl" | sed 's/.*"text": "//; s/"}$//')" = "$(sed 's/["\\]/\\&/g' "$work/out" | sed ':a;N;$!ba;s/\n/\\u000a/g')" ] ||
    fail "the first of --n-best is not the answer: $(cat "$work/n.jsonl" "$work/out")"
echo 'root ::= "yes" | "no"' >"$work/yes.gbnf"
"$cli" -m "$case" --image "$image" -p "What is it?" -n 8 -q --beams 3 --grammar "$work/yes.gbnf" >"$work/out"
grep -qx 'yes\|no' "$work/out" || fail "--beams with --grammar: $(cat "$work/out")"
[ "$(grep -o '"score": [^,]*' "$work/n.jsonl" | sort -t: -k2 -g -r)" = "$(grep -o '"score": [^,]*' "$work/n.jsonl")" ] ||
    fail "--n-best is not in order: $(cat "$work/n.jsonl")"

# ---- the bundled model and $TROL_MODEL
TROL_MODEL=$case "$cli" --image "$image" -p "What is it?" -n 8 2>"$work/printed" >"$work/again"
same "TROL_MODEL"
grep -qF "using $case" "$work/printed" || fail "it does not name the model that it uses"

# ---- output that cannot be written
status=0
"$cli" -m "$case" -p a -q >/dev/full 2>"$work/printed" || status=$?
[ $status = 1 ] && grep -q "cannot be written" "$work/printed" || fail "a full disk: status $status"
status=0
"$cli" -m "$case" -p a -q 2>"$work/printed" >&- || status=$?
[ $status = 1 ] && grep -q "cannot be written" "$work/printed" || fail "closed standard output: status $status"
"$cli" -m "$case" -p a -q -n 500 --ignore-eos 2>"$work/printed" | head -c 1 >/dev/null || true
grep -q "cannot be written" "$work/printed" || fail "a closed pipe is not reported"

status=0
(ulimit -f 4 && "$cli" -m "$case" -p a -q -n 3 --prefill-logits "$work/f.npy" >/dev/null 2>"$work/printed") || status=$?
[ $status = 1 ] && grep -q "f.npy cannot be written" "$work/printed" || fail "a file-size limit: status $status"
[ -z "$(ls "$work"/f.npy* 2>/dev/null)" ] || fail "a file-size limit left a half-written file"

# ---- ^C before anything is shown: at once, nothing half-written
mkfifo "$work/silent"
exec 3<>"$work/silent"
for signal in INT TERM HUP; do
    "$cli" -m "$case" -p a -q --image "$work/silent" --logits "$work/i.npy" >"$work/out" 2>"$work/printed" &
    process=$!
    sleep 0.3
    kill -$signal $process
    status=0
    wait $process || status=$?
    [ $status = $((128 + $(kill -l $signal))) ] || fail "SIG$signal while a picture is read: status $status"
done
exec 3>&-

# ---- a byte-order mark at the head of a prompt is not text
printf '\xef\xbb\xbfWhat is this?\r\n' >"$work/bom"
plain=$("$cli" -m "$case" -q -n 8 --ignore-eos -p "What is this?")
[ "$("$cli" -m "$case" -q -n 8 --ignore-eos --prompt-file "$work/bom")" = "$plain" ] || fail "a BOM in a prompt file counts"
[ "$("$cli" -m "$case" -q -n 8 --ignore-eos -p - <"$work/bom")" = "$plain" ] || fail "a BOM on standard input counts"

# ---- control characters reach a file unchanged and a terminal in visible form
sampled=("$cli" -m "$case" -p a -q --temp 30 --seed 7 -n 600 --ignore-eos)
"${sampled[@]}" >"$work/raw"
grep -q $'[\x01-\x08\x0b-\x1f]' "$work/raw" || fail "the sampled answer has no control characters to test with"
if command -v script >/dev/null; then
    script -qec "${sampled[*]}" /dev/null </dev/null >"$work/shown"
    ! tr -d '\r\n\t' <"$work/shown" | grep -q $'[\x01-\x1f\x7f]' || fail "control characters reach the terminal"
    ! grep -q $'\xc2[\x80-\x9f]' "$work/shown" || fail "C1 control characters reach the terminal"
    grep -qF '^' "$work/shown" || fail "control characters are not shown at all"
fi

# ---- a file that is cut while it is mapped is named
"$TROL_BUILD/trol-quantize" "$case" "$work/packed" --quiet
: >"$work/out"
"$cli" -m "$work/packed" -p a -q -n 100000 -c 100000 --ignore-eos >"$work/out" 2>"$work/printed" &
process=$!
until_written "$work/out"
: >"$work/packed/model.safetensors"
status=0
wait $process || status=$?
[ $status = 1 ] || fail "a cut file: status $status, $(cat "$work/printed")"
grep -qF "trol-cli: $(realpath "$work/packed/model.safetensors") became shorter" "$work/printed" ||
    fail "a cut file is not named: $(cat "$work/printed")"
: >"$work/out"

# ---- ^C and a hangup: the text so far, on its own line, and nothing half-written
for signal in HUP INT; do
    : >"$work/out"
    "$cli" -m "$case" -p a -q -n 100000 -c 100000 --ignore-eos --traversal all --logits "$work/i.npy" \
        >"$work/out" 2>"$work/printed" &
    process=$!
    until_written "$work/out"
    kill -$signal $process
    status=0
    wait $process || status=$?
    [ $status = $((128 + $(kill -l $signal))) ] || fail "SIG$signal: status $status, $(cat "$work/printed")"
    [ "$(tail -c 1 "$work/out" | od -An -c | tr -d ' ')" = '\n' ] || fail "SIG$signal: no line break at the end"
    ! compgen -G "$work/i.npy*" >/dev/null || fail "SIG$signal left a half-written file"
done

# ---- answers that follow a schema or a grammar
tiny=$TROL_SOURCE/models/trol-tiny-internlm2
echo '{"type": "object", "properties": {"n": {"type": "integer", "minimum": 10, "maximum": 99}}, "required": ["n"],
       "additionalProperties": false}' >"$work/schema"
"$cli" -m "$tiny" -p "How many?" --json-schema "$work/schema" >"$work/out"
grep -qE '^[{][ ]?"n": ?[1-9][0-9][ ]?[}]$' <(tr -d '\n' <"$work/out") || fail "--json-schema gave $(cat "$work/out")"
echo 'root ::= ("yes" | "no") "!"{3}' >"$work/grammar"
"$cli" -m "$tiny" -p "Is it red?" --grammar "$work/grammar" >"$work/out"
grep -qE '^(yes|no)!!!$' "$work/out" || fail "--grammar gave $(cat "$work/out")"
"$cli" -m "$tiny" -p "Is it red?" --json -n 30 >"$work/out"
grep -qE '^[{].*[}]$' <(tr -d '\n' <"$work/out") || fail "--json gave $(cat "$work/out")"
expect 2 "only one of --json-schema, --json and --grammar" -m "$tiny" -p a --json --grammar "$work/grammar"
expect 1 "the shortest one that the constraint allows takes" -m "$tiny" -p a --json-schema "$work/schema" -n 2
expect 1 "$work/none" -m "$tiny" -p a --grammar "$work/none"
printf '\357\273\277{"enum": ["a"]}\r\n' >"$work/marked"
[ "$("$cli" -m "$tiny" -p a -q --json-schema "$work/marked")" = '"a"' ] || fail "a schema with a byte-order mark"
printf '\357\273\277root ::= "yes"\r\n# a comment\r\n' >"$work/marked"
[ "$("$cli" -m "$tiny" -p a -q --grammar "$work/marked")" = yes ] || fail "a grammar with a byte-order mark"
echo '{"type": "object", "if": {}}' >"$work/schema"
expect 1 "$work/schema: the schema at #/if" -m "$tiny" -p a --json-schema "$work/schema"
echo "test-cli: all well"
