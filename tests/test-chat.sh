#!/usr/bin/env bash
# trol-cli --chat, line by line from standard input: turns, commands, what is reused, how errors are reported.
set -euo pipefail

cli=$TROL_BUILD/trol-cli
. "$TROL_SOURCE/tests/common.sh"
cd "$work"

# chat NAME [OPTION ...]: the lines on standard input; answers in NAME.out, notices in NAME.err
chat() {
    local name=$1
    shift
    "$cli" -m "$model" --chat "$@" >"$name.out" 2>"$name.err" || fail "$name: exit status $?: $(cat "$name.err")"
}
has() { grep -qF -- "$2" "$1" || fail "$1 has no \"$2\": $(cat "$1")"; }

# The first turn is what a single question gives; the second reuses it.
chat two --stats <<END
/image $pictures/balloons.png
What color is the heart?
What color is the star?
END
once=$("$cli" -m "$model" --image "$pictures/balloons.png" -p "What color is the heart?" 2>/dev/null)
[ "$(head -n 1 two.out)" = "$once" ] || fail "the first turn differs from a single question: $(cat two.out)"
[ "$(wc -l <two.out)" = 2 ] || fail "two questions, but not two answers: $(cat two.out)"
first=$(sed -n '1s/^prompt: \([0-9]*\) tokens.*, 0 reused.*/\1/p' two.err)
second=$(sed -n '2s/^prompt: [0-9]* tokens.*, \([0-9]*\) reused.*/\1/p' two.err)
[ -n "$first" ] && [ "$second" = "$first" ] || fail "the second turn reuses '$second' of the first one's '$first' tokens"

# Whatever was undone leaves no trace; lines that go on are one question.
chat undone <<END
/image $pictures/balloons.png
What color is the heart?
Where is the heart?
/undo
What color \\
is the star?
END
chat plain <<END
/image $pictures/balloons.png
What color is the heart?
"""What color 
is the star?"""
END
[ "$(sed -n 1p undone.out)" = "$once" ] || fail "undo: $(cat undone.out)"
[ "$(wc -l <undone.out)" = 3 ] && [ "$(wc -l <plain.out)" = 2 ] || fail "lines that go on: $(cat undone.out plain.out)"
[ "$(tail -n 1 undone.out)" = "$(tail -n 1 plain.out)" ] || fail "undo changes the next answer"

# A conversation goes on from its file, pictures and tokens included.
chat saved <<END
/image $pictures/balloons.png
What color is the heart?
/save talk.json
What color is the star?
END
chat loaded <<END
/load talk.json
What color is the star?
END
[ "$(tail -n 1 saved.out)" = "$(tail -n 1 loaded.out)" ] || fail "a loaded conversation goes on differently"
has loaded.err "talk.json: 2 messages, 1 picture"

# Errors are reported, and the chat continues.
echo '{"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x"}}]}]}' >url.json
echo '{"messages": [{"role": "assistant", "content": "x"}]}' >turn.json
echo 'no json' >text.json
chat wrong <<END
/image nosuch.png
/nosuch
/save
/undo
/load url.json
/load turn.json
/load text.json
What is <image> that?
What is \\<image> that?
END
has wrong.err "nosuch.png cannot be opened"
has wrong.err "there is no command /nosuch"
has wrong.err "/save needs a file's name"
has wrong.err "there is no turn to take back"
has wrong.err "url.json: message 1 has an image that is not a data: URL"
has wrong.err "turn.json: message 1 is out of turn"
has wrong.err "text.json: it is not a saved conversation"
has wrong.err "places 1 pictures with <image>, but 0 were attached"
[ "$(wc -l <wrong.out)" = 1 ] || fail "errors stop the chat: $(cat wrong.out)"

# A full context: reported, or the oldest turns leave.
questions() { for i in 1 2 3 4 5 6; do echo "What is number $i in this long list of questions about nothing?"; done; }
questions | chat full -c 160 -n 8 --ignore-eos
has full.err "make room"
questions | chat shift -c 160 -n 8 --ignore-eos --ctx-shift
has shift.err "the oldest turn was dropped, what remains is processed again"
[ "$(wc -l <shift.out)" = 6 ] || fail "with --ctx-shift each question has an answer: $(cat shift.out shift.err)"

# File names in quotes and from ~ on; what commands report.
cp "$pictures/balloons.png" "a picture.png"
HOME=$work chat names --stats <<END
/image "a picture.png"
What color is the heart?
/save ~/kept.json
/undo
/nope nothing
/undo now
/stats
/image '~'
END
[ "$(head -n 1 names.out)" = "$once" ] && [ -s kept.json ] || fail "names of files: $(cat names.out names.err)"
has names.err "$work/kept.json: 2 messages, 1 picture"
! grep -q "1 pictures" names.err || fail "one pictures"
has names.err "taken back: What color is the heart?"
has names.err "there is no command /nope"
has names.err "/undo takes nothing after it"
grep -q "^generated [1-9]" names.err || fail "/stats: $(cat names.err)"
has names.err "~ cannot be opened"
# The held-back beginning of a stop string is shown where -n ends the answer.
short=$("$cli" -m "$model" -p "What is it?" -n 5 -q)
[ "$("$cli" -m "$model" -p "What is it?" -n 5 -q --stop "${short: -2}and more")" = "$short" ] || fail "text held back is lost"

"$cli" -m "$model" --chat --raw </dev/null 2>usage.err && fail "--chat --raw is accepted"
has usage.err "--chat is a conversation"
echo "test-chat: all well"
