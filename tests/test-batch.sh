#!/usr/bin/env bash
# trol-cli --batch: answers in order and equal to single ones, bad lines, --resume after a cut, refusals.
set -euo pipefail

cli=$TROL_BUILD/trol-cli
. "$TROL_SOURCE/tests/common.sh"
cd "$work"

batch() { "$cli" -q -m "$model" --batch "$@"; }
answers() { sed -n 's/.*"answer":"\([^"]*\)".*/\1/p' "$1"; }
lines() { grep -c . "$1" || true; }

questions=("What color is the heart?" "How many objects are there?" "What color is the star?" "Describe the picture."
           "Where is the heart?" "Is there a star?")
: >in.jsonl
: >single.txt
for image in balloons table; do
    for question in "${questions[@]}"; do
        echo "{\"id\": \"$image\", \"image\": \"$pictures/$image.png\", \"prompt\": \"$question\"}" >>in.jsonl
        "$cli" -q -m "$model" --image "$pictures/$image.png" -p "$question" >>single.txt
    done
done

# In order, and equal to single questions, however many are answered at once.
for parallel in 1 3 8; do
    batch in.jsonl --output "out$parallel.jsonl" --parallel $parallel || fail "--parallel $parallel: exit status $?"
    answers "out$parallel.jsonl" | diff - single.txt || fail "--parallel $parallel: answers differ from single ones"
    [ "$(sed -n 's/.*"line":\([0-9]*\).*/\1/p' "out$parallel.jsonl" | tr '\n' ' ')" = "1 2 3 4 5 6 7 8 9 10 11 12 " ] ||
        fail "--parallel $parallel: not in order"
done
batch in.jsonl --output q8.jsonl --parallel 3 --cache-type q8 || fail "--cache-type q8: exit status $?"
head -n 6 in.jsonl | sed 's/.*"prompt": "\(.*\)"}/\1/' | while read -r question; do
    "$cli" -q -m "$model" --image "$pictures/balloons.png" -p "$question" --cache-type q8
done >single-q8.txt
answers q8.jsonl | head -n 6 | diff - single-q8.txt || fail "--cache-type q8: answers differ from single ones"
batch in.jsonl --output q8.jsonl --resume 2>usage.err && fail "--resume with another --cache-type"
batch - <in.jsonl >piped.jsonl || fail "standard input: exit status $?"
answers piped.jsonl | diff - single.txt || fail "standard input: answers differ"

# A marker places the picture, and sampling depends on the line's seed alone.
cat >fields.jsonl <<END
{"image": "$pictures/balloons.png", "prompt": "<image>\nWhat color is the heart?"}
{"image": "$pictures/balloons.png", "prompt": "What color is the heart?", "temperature": 30, "seed": 5, "max_tokens": 9}
{"image": "$pictures/balloons.png", "prompt": "What color is the heart?", "temperature": 30, "seed": 5, "max_tokens": 9}
{"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "$pictures/balloons.png"}}, {"type": "text", "text": "What color is the heart?"}]}]}
END
batch fields.jsonl >fields.out || fail "fields: exit status $?"
[ "$(answers fields.out | sed -n 1p)" = "$(head -n 1 single.txt)" ] || fail "a marker: $(cat fields.out)"
[ "$(answers fields.out | sed -n 2p)" = "$(answers fields.out | sed -n 3p)" ] || fail "equal seeds: $(cat fields.out)"
[ "$(answers fields.out | sed -n 4p)" = "$(head -n 1 single.txt)" ] || fail "messages: $(cat fields.out)"

# A bad line gets an error, the others their answers.
cat >bad.jsonl <<END
not json

{"prompt": "x", "image": "nosuch.png"}
{"prompt": "x", "image": "http://example.com/x.png"}
{"prompt": "x", "nonsense": 1}
{"prompt": "x", "messages": []}
{"id": []}
{"prompt": 5}
{"prompt": "<image> <image>", "image": "$pictures/balloons.png"}
{"prompt": "Hello", "temperature": "hot"}
{"prompt": "Hello", "max_tokens": 2}
{"prompt": "Hello", "model": "another"}
{"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://example.com/x.png"}}]}]}
{"messages": [{"role": "user", "content": "a", "nonsense": 1}]}
{"prompt": "$(head -c 200000 /dev/zero | tr '\0' 'x')"}
END
batch bad.jsonl >bad.out || fail "bad lines: exit status $?"
[ "$(lines bad.out)" = 15 ] || fail "bad lines: not a line each: $(cat bad.out)"
[ "$(grep -c '"error":"' bad.out)" = 13 ] || fail "bad lines: $(cat bad.out)"
grep -q '"line":3,.*nosuch.png cannot be opened' bad.out || fail "a missing picture: $(cat bad.out)"
grep -q '"line":4,.*nothing is fetched' bad.out || fail "a picture of the web: $(cat bad.out)"
! grep -i server bad.out || fail "the errors of a batch name a server"
grep -q '"line":11,.*"answer"' bad.out || fail "the last line is not answered: $(cat bad.out)"

# --resume: an incomplete last line is dropped, the others stay, and the result equals an uninterrupted run.
batch in.jsonl --output out1.jsonl 2>exists.err && fail "an existing output is overwritten"
grep -q "out1.jsonl exists already" exists.err || fail "an existing output: $(cat exists.err)"
for n in 0 5 12; do
    head -n $n out1.jsonl >cut.jsonl
    printf '{"id":"balloons","line":6,"inp' >>cut.jsonl
    batch in.jsonl --output cut.jsonl --resume || fail "--resume after $n lines: exit status $?"
    answers cut.jsonl | diff - single.txt || fail "--resume after $n lines: answers differ"
done
head -n 5 out1.jsonl >other.jsonl
batch in.jsonl --output other.jsonl --resume --temp 1 2>other.err && fail "--resume with another temperature"
grep -q "line 1 of other.jsonl was made from another line, another model or with other options" other.err ||
    fail "--resume with another temperature: $(cat other.err)"
[ "$(lines other.jsonl)" = 5 ] || fail "a refused --resume changes the output"
sed '2s/objects/things/' in.jsonl >edited.jsonl
batch edited.jsonl --output other.jsonl --resume 2>other.err && fail "--resume with an edited line"
grep -q "line 2 of other.jsonl" other.err || fail "--resume with an edited line: $(cat other.err)"

# The command's schema applies to lines without a format of their own, and --resume checks it.
echo '{"type": "object", "properties": {"shape": {"enum": ["circle", "star"]}}, "required": ["shape"], "additionalProperties": false}' >schema.json
echo 'root ::= "aye" | "nay"' >rule.gbnf
cat >ruled.jsonl <<END
{"image": "$pictures/balloons.png", "prompt": "What shape is red?"}
{"image": "$pictures/balloons.png", "prompt": "What color is the heart?", "grammar": "root ::= \\"yes\\" | \\"no\\""}
{"image": "$pictures/balloons.png", "prompt": "What color is the heart?", "response_format": {"type": "text"}}
{"image": "$pictures/balloons.png", "prompt": "What color is the heart?", "json_schema": {"type": "boolean"}}
{"image": "$pictures/balloons.png", "prompt": "What color is the heart?", "max_tokens": 1}
END
batch ruled.jsonl --output ruled.out --json-schema schema.json || fail "--json-schema: exit status $?"
single=$("$cli" -q -m "$model" --image "$pictures/balloons.png" -p "What shape is red?" --json-schema schema.json)
single=${single//\"/\\\"}
sed -n 1p ruled.out | grep -qF "\"answer\":\"${single//$'\n'/\\n}\"" || fail "--json-schema: $(cat ruled.out), not $single"
sed -n 2p ruled.out | grep -qE '"answer":"(yes|no)"' || fail "a line's own grammar: $(cat ruled.out)"
[ "$(answers ruled.out | sed -n 3p)" = "$(head -n 1 single.txt)" ] || fail "a line without a rule: $(cat ruled.out)"
sed -n 4p ruled.out | grep -qE '"answer":"(true|false)"' || fail "a line's own schema: $(cat ruled.out)"
sed -n 5p ruled.out | grep -q '"error":"max_tokens is 1, but no answer in the form' || fail "too few tokens: $(cat ruled.out)"
batch ruled.jsonl --output ruled.out --resume --json-schema schema.json || fail "--resume with the schema: exit status $?"
[ "$(lines ruled.out)" = 5 ] || fail "--resume with the schema: $(cat ruled.out)"
sed -i s/circle/square/ schema.json
for other in "--json-schema schema.json" --json "--grammar rule.gbnf" ""; do
    # shellcheck disable=SC2086
    batch ruled.jsonl --output ruled.out --resume $other 2>other.err && fail "--resume with another schema: $other"
    grep -q "line 1 of ruled.out was made" other.err || fail "--resume with another schema: $(cat other.err)"
done
batch ruled.jsonl --grammar rule.gbnf | sed -n 1p | grep -qE '"answer":"(aye|nay)"' || fail "--grammar"
batch ruled.jsonl --json | sed -n 1p | grep -qE '"answer":"[{].*[}]"' || fail "--json"
echo '{"type": 5}' >schema.json
batch ruled.jsonl --json-schema schema.json >wrong.out 2>wrong.err && fail "a wrong schema"
grep -q "schema.json: the schema at #/type" wrong.err || fail "a wrong schema: $(cat wrong.err)"
[ ! -s wrong.out ] || fail "a wrong schema: lines are answered"

# A signal leaves whole lines only.
for i in $(seq 200); do cat in.jsonl; done >long.jsonl
"$cli" -q -m "$model" --batch long.jsonl --output long.out &
pid=$!
sleep 1
kill -INT $pid
status=0
wait $pid || status=$?
[ $status = 130 ] || fail "^C: exit status $status"
[ ! -s long.out ] || [ "$(tail -c 1 long.out | od -An -c | tr -d ' ')" = '\n' ] || fail "^C leaves half a line"

batch nosuch.jsonl 2>usage.err && fail "an input that does not exist"
grep -q "nosuch.jsonl cannot be opened" usage.err || fail "an input that does not exist: $(cat usage.err)"
for option in "-p x" "--session x" "--json --grammar rule.gbnf" "--beams 2" --ignore-eos "--logit-bias 5+1"; do
    # shellcheck disable=SC2086
    batch in.jsonl $option 2>usage.err && fail "--batch with $option"
done
batch - --json-schema - <in.jsonl 2>usage.err && fail "standard input twice"
echo "test-batch: all well"
