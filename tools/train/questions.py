"""Questions about a scene, their answers and how to grade them.

`ask(scene, rng)` returns one random question: {"kind", "question", "answer", "accept", "reject"}.
Wordings are written as patterns: {a|b|} picks one alternative, and alternatives may nest.
The grading rule is `grade`; README.md states it in words, for graders in other languages.
"""
import re

from scenes import COLOURS, SHAPES

KINDS = ("colour", "shape", "count", "position", "yesno", "compare", "describe")
NUMBERS = ("no", "one", "two", "three", "four")
PLURAL = {shape: shape + ("es" if shape == "cross" else "s") for shape in SHAPES}
OPPOSITE = {"left": "right", "right": "left", "above": "below", "below": "above"}
PHRASE = {"left": "to the left of", "right": "to the right of", "above": "above", "below": "below"}


def expand(pattern, rng, **slots):
    """Chooses among {a|b} from the inside out, then fills <slots>."""
    while True:
        found = re.search(r"\{([^{}]*)\}", pattern)
        if not found:
            break
        options = found.group(1).split("|")
        pattern = pattern[: found.start()] + options[rng.integers(len(options))] + pattern[found.end():]
    for name, text in slots.items():
        pattern = pattern.replace(f"<{name}>", text)
    return re.sub(r" +", " ", pattern).strip()


IN = "{| in the {picture|image}| in this {picture|image}| {here|in the {scene|photo|drawing}}| {you see|that you see}{| here}}"
IN_PLAIN = "{| in the {picture|image}| in this {picture|image|photo}| here}"


def finish(text, rng, request=False):
    """Politeness, case and the closing mark, as people vary them."""
    kind = rng.random()
    if kind < 0.06 and not request:
        text = expand("{Please tell me|Tell me}", rng) + ": " + text[0].lower() + text[1:]
    elif kind < 0.10 and not request:
        text = expand("{Look at the {picture|image}|Look closely}", rng) + ". " + text
    elif kind < 0.14 and request:
        text = "Please " + text[0].lower() + text[1:]
    end = "." if request else "?"
    kind = rng.random()
    if kind < 0.06:
        end = ""
    elif kind < 0.09:
        end += " Answer in {a|one} {full |}sentence."
        end = expand(end, rng)
    text += end
    if rng.random() < 0.08:
        text = text[0].lower() + text[1:]
    return text


def a(noun):
    return ("an " if noun[0] in "aeiou" else "a ") + noun


def name(o):
    return f"{o['colour']} {o['shape']}"


def matches(o, colour=None, shape=None):
    return (colour is None or o["colour"] == colour) and (shape is None or o["shape"] == shape)


def same_kind(objects, o):
    return [p for p in objects if name(p) == name(o)]


def reference(objects, o, rng, forbid=()):
    """A phrase that means o and no other: "red circle", "circle", "red object"; None if there is none."""
    ways = []
    if len(same_kind(objects, o)) == 1 and "both" not in forbid:
        ways += [name(o)] * 3
    if sum(matches(p, shape=o["shape"]) for p in objects) == 1 and "shape" not in forbid:
        ways += [o["shape"]] * 2
    if sum(matches(p, colour=o["colour"]) for p in objects) == 1 and "colour" not in forbid:
        ways += [o["colour"] + " " + expand("{object|shape|thing|one|figure}", rng)]
    return ways[rng.integers(len(ways))] if ways else None


def relation(scene, o, p):
    """Where o is, seen from p, if one direction clearly prevails; else None."""
    dx, dy = o["x"] - p["x"], o["y"] - p["y"]
    gap = 0.3 * (o["size"] + p["size"])
    if abs(dx) > 1.25 * abs(dy) and abs(dx) > gap:
        return "left" if dx < 0 else "right"
    if abs(dy) > 1.25 * abs(dx) and abs(dy) > gap:
        return "above" if dy < 0 else "below"
    return None


def others(words, *used):
    return [w for w in words if w not in used]


def unused_words(objects):
    """Shapes and colours, singular and plural, that no object has."""
    shapes = [s for s in SHAPES if not any(o["shape"] == s for o in objects)]
    colours = [c for c in COLOURS if not any(o["colour"] == c for o in objects)]
    return shapes + [PLURAL[s] for s in shapes] + colours


def result(kind, question, answer, accept, reject):
    return {"kind": kind, "question": question, "answer": answer, "accept": accept, "reject": reject}


# ---------------------------------------------------------------------------------------------------
# One function a kind; each returns a result or None where the scene does not lend itself to it.


def side_reference(scene, rng):
    """Two objects: ("on the left", object), if they are clearly apart in that direction."""
    o, p = scene["objects"]
    across = rng.random() < 0.5
    key, words = ("x", ("left", "right")) if across else ("y", ("top", "bottom"))
    if abs(o[key] - p[key]) < 0.4 * (o["size"] + p["size"]):
        return None
    first = rng.random() < 0.5
    chosen = min(scene["objects"], key=lambda q: q[key]) if first else max(scene["objects"], key=lambda q: q[key])
    word = words[0] if first else words[1]
    return f"{'on' if across else expand('{on|at}', rng)} the {word}", chosen


def ask_colour(scene, rng):
    objects = scene["objects"]
    o = objects[rng.integers(len(objects))]
    if len(objects) == 1 and rng.random() < 0.4:
        subject = "the " + expand("{object|shape|thing|figure}", rng)
        told = f"The {o['shape']}"
    elif len(objects) == 2 and rng.random() < 0.2:
        side = side_reference(scene, rng)
        if side is None:
            return None
        o = side[1]
        subject = "the " + expand("{object|shape|thing}", rng) + " " + side[0]
        told = f"The {o['shape']} {side[0]}"
    else:
        if sum(matches(p, shape=o["shape"]) for p in objects) > 1:
            return None
        subject, told = "the " + o["shape"], f"The {o['shape']}"
    question = expand(
        "{{What|Which} {colour|color} {is|does} <s>" + IN_PLAIN + "|What is the {colour|color} of <s>" + IN_PLAIN
        + "|<S> is {what|which} {colour|color}|{Can|Could} you {tell me|say|name} {what|which} {colour|color} <s> is"
        + "|In {what|which} {colour|color} is <s> {drawn|painted}|What {colour|color} would you say <s> is}",
        rng, s=subject, S=subject[0].upper() + subject[1:])
    question = re.sub(r"^(What|Which) (colour|color) does (.*)$", r"\1 \2 does \3 have", question)
    request = rng.random() < 0.12
    if request:
        question = expand("{Name|Tell me|Give|State|Say} the {colour|color} of <s>" + IN_PLAIN, rng, s=subject)
    return result("colour", finish(question, rng, request), f"{told} is {o['colour']}.", [[o["colour"]]], others(COLOURS, o["colour"]))


def ask_shape(scene, rng):
    objects = scene["objects"]
    o = objects[rng.integers(len(objects))]
    if len(objects) == 1 and rng.random() < 0.4:
        subject = "the " + expand("{object|shape|thing|figure}", rng)
        told = f"The {o['colour']} object"
    elif len(objects) == 2 and rng.random() < 0.2:
        side = side_reference(scene, rng)
        if side is None:
            return None
        o = side[1]
        subject = "the " + expand("{object|thing|figure}", rng) + " " + side[0]
        told = f"The object {side[0]}"
    else:
        if sum(matches(p, colour=o["colour"]) for p in objects) > 1:
            return None
        subject = f"the {o['colour']} " + expand("{object|thing|one|figure|item}", rng)
        told = f"The {o['colour']} object"
    question = expand(
        "{{What|Which} shape {is|does} <s>" + IN_PLAIN + "|What is the shape of <s>" + IN_PLAIN
        + "|What kind of {shape|object|figure} is <s>" + IN_PLAIN + "|What is <s>" + IN_PLAIN
        + "|{Can|Could} you {tell me|say|name} {what|which} shape <s> {is|has}|<S> is {what|which} shape"
        + "|What {shape|form} would you say <s> {is|has}}",
        rng, s=subject, S=subject[0].upper() + subject[1:])
    question = re.sub(r"^(What|Which) shape does (.*)$", r"\1 shape does \2 have", question)
    request = rng.random() < 0.12
    if request:
        question = expand("{Name|Tell me|Give|State|Say} the shape of <s>" + IN_PLAIN, rng, s=subject)
    return result("shape", finish(question, rng, request), f"{told} is {a(o['shape'])}.", [[o["shape"]]], others(SHAPES, o["shape"]))


def counted(n, singular, plural):
    return f"There {'is' if n == 1 else 'are'} {NUMBERS[n]} {singular if n == 1 else plural}"


def ask_count(scene, rng):
    objects = scene["objects"]
    kind = rng.random()
    if kind < 0.4:
        noun = expand("{object|shape|thing|figure|item}", rng)
        plural, n, answer_noun, answer_plural = noun + "s", len(objects), "object", "objects"
    else:
        o = objects[rng.integers(len(objects))]
        if kind < 0.72:
            shape = o["shape"] if rng.random() < 0.85 else SHAPES[rng.integers(8)]
            n = sum(matches(p, shape=shape) for p in objects)
            noun, plural = shape, PLURAL[shape]
            answer_noun, answer_plural = noun, plural
        elif kind < 0.92:
            colour = o["colour"] if rng.random() < 0.85 else COLOURS[rng.integers(8)]
            n = sum(matches(p, colour=colour) for p in objects)
            noun = colour + " " + expand("{object|shape|thing|figure|item}", rng)
            plural, answer_noun, answer_plural = noun + "s", colour + " object", colour + " objects"
        else:
            shape = o["shape"]
            colour = o["colour"] if rng.random() < 0.7 else COLOURS[rng.integers(8)]
            n = sum(matches(p, colour, shape) for p in objects)
            noun, plural = f"{colour} {shape}", f"{colour} {PLURAL[shape]}"
            answer_noun, answer_plural = noun, plural
    question = expand(
        "{How many <p> are {there|visible|shown}" + IN + "|How many <p> {can|do} you see" + IN_PLAIN
        + "|How many <p> does {the|this} {picture|image} {show|have|contain}|What is the number of <p>" + IN_PLAIN
        + "|{Can|Could} you {tell me|say|count} how many <p> {there are|you see}" + IN_PLAIN + "}", rng, p=plural)
    count_request = rng.random() < 0.1
    if count_request:
        question = expand("Count the <p>" + IN_PLAIN, rng, p=plural)
    digits = [str(i) for i in range(5) if i != n]
    # "no" stands for zero, so it is graded as a number here.
    words = others(NUMBERS, NUMBERS[n])
    return result("count", finish(question, rng, count_request), counted(n, answer_noun, answer_plural) + ".",
                  [[NUMBERS[n]], [str(n)]] + ([["zero"], ["none"]] if n == 0 else []), words + digits)


def ask_position(scene, rng):
    objects = scene["objects"]
    kind = rng.random()
    if len(objects) == 1 or kind < 0.14:
        return ask_half(scene, rng)
    o, p = (objects[i] for i in rng.choice(len(objects), 2, replace=False))
    first, second = reference(objects, o, rng), reference(objects, p, rng)
    where = relation(scene, o, p)
    if first is None or second is None or where is None:
        return None
    answer = f"The {first} is {PHRASE[where]} the {second}."
    if kind < 0.62:
        question = expand(
            "{Where is the <a> {relative to|in relation to|compared to|compared with|as seen from|seen from} the <b>" + IN_PLAIN
            + "|{What|Which} side of the <b> is the <a> on"
            + "|Where is the <a>, {left or right of, above or below|to the left, to the right, above or below} the <b>"
            + "|Is the <a> {left, right, above or below|to the left of, to the right of, above or below} the <b>"
            + "|In {what|which} direction {from|of} the <b> is the <a>"
            + "|{What|Which} is the position of the <a> {relative|compared} to the <b>"
            + "|Where {do you see|can you see|would you find} the <a> {relative to|compared to|seen from} the <b>"
            + "|{Can|Could} you {say|tell me} where the <a> is {relative to|compared to|seen from} the <b>}",
            rng, a=first, b=second)
        return result("position", finish(question, rng), answer, [[where]], others(OPPOSITE, where))
    if kind < 0.85 and len(objects) == 2:
        question = expand(
            "{{What|Which {object|shape|thing|one}|What object} is {<rel>|located <rel>} the <b>" + IN_PLAIN
            + "|{What|Which {object|shape}} do you see <rel> the <b>|{Can|Could} you {tell me|say|name} what is <rel> the <b>}",
            rng, rel=relation_words(where, rng), b=second)
        return result("position", finish(question, rng), f"The {name(o)} is {PHRASE[where]} the {second}.",
                      [[name(o)]], unused_words(objects))
    side = side_reference(scene, rng) if len(objects) == 2 else None
    if side is None:
        return None
    o = side[1]
    question = expand(
        "{{What|Which {object|shape|thing|one}|What object} is <s>" + IN_PLAIN
        + "|{What|Which {object|shape}} do you see <s>" + IN_PLAIN + "|Name the {object|shape} <s>}", rng, s=side[0])
    other = objects[1] if o is objects[0] else objects[0]
    reject = [name(other)] if name(other) != name(o) else []
    return result("position", finish(question, rng, question.startswith("Name")),
                  f"The {name(o)} is {side[0]}.", [[name(o)]], reject + unused_words(objects))


def relation_words(where, rng):
    return expand({"left": "{to the left of|left of|on the left of}", "right": "{to the right of|right of|on the right of}",
                   "above": "{above|over|above}", "below": "{below|under|beneath|below}"}[where], rng)


def ask_half(scene, rng):
    """Where in the picture: left or right half, upper or lower half."""
    objects = scene["objects"]
    o = objects[rng.integers(len(objects))]
    subject = reference(objects, o, rng)
    if len(objects) == 1 and rng.random() < 0.3:
        subject = expand("{object|shape|thing}", rng)
    if subject is None:
        return None
    x, y = o["x"] / scene["width"] - 0.5, o["y"] / scene["height"] - 0.5
    plain_where = rng.random() < 0.3  # "Where is the star?": the direction in which it is further from the middle
    across = abs(x) > abs(y) if plain_where else rng.random() < 0.5
    if abs(x if across else y) < 0.08 or (plain_where and max(abs(x), abs(y)) < 1.4 * min(abs(x), abs(y))):
        return None
    picture = expand("{picture|image}", rng)
    asked_plainly = expand("{Where is the <a>" + IN_PLAIN + "|Where in the {picture|image} is the <a>|Where {do|can} you see the <a>"
                           "|{Can|Could} you {say|tell me} where the <a> is}", rng, a=subject)
    if across:
        where = "left" if x < 0 else "right"
        question = expand(
            "{Is the <a> {on|in} the left or {on|in} the right {|side |half }of the <p>|{On which|On what} side of the <p> is the <a>|{Which|What} side of the <p> is the <a> on"
            "|Is the <a> on the left or {on |}the right|Is the <a> in the left half or {in |}the right half{| of the <p>}}",
            rng, a=subject, p=picture)
        question = asked_plainly if plain_where else question
        answer = f"The {subject} is on the {where} side of the {picture}."
        return result("position", finish(question, rng), answer, [[where]], [OPPOSITE[where]])
    where, wrong = ("top", "bottom") if y < 0 else ("bottom", "top")
    question = expand(
        "{Is the <a> {at|in} the top or {at|in} the bottom {|part |half }of the <p>|Is the <a> at the top or {at |}the bottom"
        "|Is the <a> in the {upper|top} half or {in |}the {lower|bottom} half{| of the <p>}}", rng, a=subject, p=picture)
    question = asked_plainly if plain_where else question
    answer = f"The {subject} is in the {where} half of the {picture}."
    return result("position", finish(question, rng), answer, [[where]], [wrong])


def ask_yesno(scene, rng):
    objects = scene["objects"]
    kind = rng.random()
    yes = rng.random() < 0.5
    o = objects[rng.integers(len(objects))]
    if kind < 0.6:
        return ask_exists(objects, o, yes, rng)
    if kind < 0.8:
        return ask_attribute(objects, o, yes, rng)
    if len(objects) == 1:
        return None
    p = objects[rng.integers(len(objects))]
    first, second = reference(objects, o, rng), reference(objects, p, rng)
    where = relation(scene, o, p) if o is not p else None
    if first is None or second is None or where is None:
        return None
    asked = where if yes else OPPOSITE[where] if rng.random() < 0.7 else others(OPPOSITE, where)[rng.integers(3)]
    question = expand("{Is the <a> {|located }<rel> the <b>" + IN_PLAIN + "|{Would you say|Can you see} that the <a> is <rel> the <b>}",
                      rng, a=first, rel=relation_words(asked, rng), b=second)
    answer = f"{'Yes' if asked == where else 'No'}, the {first} is {PHRASE[where]} the {second}."
    return yes_or_no(question, asked == where, answer, rng)


def yes_or_no(question, yes, answer, rng):
    return result("yesno", finish(question, rng), answer, [["yes"]] if yes else [["no"]], ["no"] if yes else ["yes"])


def ask_exists(objects, o, yes, rng):
    form = rng.choice(["both", "shape", "colour"], p=[0.5, 0.3, 0.2])
    colour, shape = o["colour"], o["shape"]
    if form == "shape":
        if not yes:
            shape = SHAPES[rng.integers(8)]
        yes = any(matches(p, shape=shape) for p in objects)
        noun, plural, said, said_many = shape, PLURAL[shape], a(shape), f"no {shape}"
    elif form == "colour":
        if not yes:
            colour = COLOURS[rng.integers(8)]
        yes = any(matches(p, colour=colour) for p in objects)
        word = expand("{object|shape|thing|figure}", rng)
        noun, plural = f"{colour} {word}", f"{colour} {word}s"
        said, said_many = a(colour + " object"), f"no {colour} object"
    else:
        if not yes:  # mostly near misses: one of the two words is right
            miss = rng.random()
            if miss < 0.4:
                colour = COLOURS[rng.integers(8)]
            elif miss < 0.8:
                shape = SHAPES[rng.integers(8)]
            else:
                other = objects[rng.integers(len(objects))]
                colour = other["colour"]
        yes = any(matches(p, colour, shape) for p in objects)
        noun, plural = f"{colour} {shape}", f"{colour} {PLURAL[shape]}"
        said, said_many = a(noun), f"no {noun}"
    question = expand(
        "{Is there <n>" + IN + "|Are there any <p>" + IN + "|{Do|Can} you see {<n>|any <p>}" + IN_PLAIN
        + "|Does {the|this} {picture|image} {show|have|contain} {<n>|any <p>}|Is <n> {visible|shown|present}" + IN_PLAIN
        + "|Is there {any <N>|<n> anywhere}" + IN_PLAIN + "|Is there {something|anything} that is <n>}",
        rng, n=a(noun), N=noun, p=plural)
    if form == "colour" and rng.random() < 0.25:
        question = expand("{Is there {anything|something} <c>" + IN + "|Is {anything|something} <c>" + IN_PLAIN
                          + "|Do you see {anything|something} <c>}", rng, c=colour)
    answer = f"Yes, there is {said}." if yes else f"No, there is {said_many}."
    return yes_or_no(question, yes, answer, rng)


def ask_attribute(objects, o, yes, rng):
    """Is the circle red? Is the red object a circle?"""
    if rng.random() < 0.5:
        if sum(matches(p, shape=o["shape"]) for p in objects) > 1:
            return None
        asked = o["colour"] if yes else COLOURS[rng.integers(8)]
        if not yes and rng.random() < 0.4:
            asked = objects[rng.integers(len(objects))]["colour"]
        question = expand("{Is the <s> <c>" + IN_PLAIN + "|Is the {colour|color} of the <s> <c>|Is the <s> {drawn|painted} in <c>"
                          + "|Does the <s> have the {colour|color} <c>|Would you say the <s> is <c>}", rng, s=o["shape"], c=asked)
        yes = asked == o["colour"]
        return yes_or_no(question, yes, f"{'Yes' if yes else 'No'}, the {o['shape']} is {o['colour']}.", rng)
    if sum(matches(p, colour=o["colour"]) for p in objects) > 1:
        return None
    asked = o["shape"] if yes else SHAPES[rng.integers(8)]
    if not yes and rng.random() < 0.4:
        asked = objects[rng.integers(len(objects))]["shape"]
    word = expand("{object|shape|thing|one|figure}", rng)
    question = expand("{Is the <c> <w> <s>" + IN_PLAIN + "|Is the shape of the <c> <w> <s>|Would you say the <c> <w> is <s>"
                      + "|Does the <c> <w> look like <s>}", rng, c=o["colour"], w=word, s=a(asked))
    yes = asked == o["shape"]
    return yes_or_no(question, yes, f"{'Yes' if yes else 'No'}, the {o['colour']} object is {a(o['shape'])}.", rng)


def ask_compare(scene, rng):
    objects = scene["objects"]
    if len(objects) < 2:
        return None
    o, p = (objects[i] for i in rng.choice(len(objects), 2, replace=False))
    pair_only = len(objects) == 2
    kind = rng.random()
    if kind < 0.5:
        first, second = reference(objects, o, rng), reference(objects, p, rng)
        if first is None or second is None or max(o["size"], p["size"]) < 1.3 * min(o["size"], p["size"]):
            return None
        if rng.random() < 0.3:
            larger = o["size"] > p["size"]
            asked = larger if rng.random() < 0.5 else not larger
            word = expand("{larger|bigger}" if asked else "smaller", rng)
            question = expand("Is the <a> <w> than the <b>" + IN_PLAIN, rng, a=first, w=word, b=second)
            answer = f"{'Yes' if asked == larger else 'No'}, the {first} is {'larger' if larger else 'smaller'} than the {second}."
            return dict(yes_or_no(question, asked == larger, answer, rng), kind="compare")
        want_larger = rng.random() < 0.5
        chosen = max((o, p), key=lambda q: q["size"]) if want_larger else min((o, p), key=lambda q: q["size"])
        other = p if chosen is o else o
        pick, rest = (first, second) if chosen is o else (second, first)
        word = "larger" if want_larger else "smaller"
        asked = expand("{larger|bigger}" if want_larger else "smaller", rng)
        if pair_only and rng.random() < 0.3:
            question = expand("{Which {object|shape|one} is <w>" + IN_PLAIN + "|Which of the two {objects|shapes} is <w>|What is the <w> {object|shape}}",
                              rng, w=asked)
            pick, rest = name(chosen), name(other)
            if pick == rest:
                return None
        else:
            question = expand("{{Which|Which one|Which {object|shape}} is <w>{,|:} the <a> or the <b>|Is the <a> or the <b> <w>"
                              "|Which of the two is <w>{,|:} the <a> or the <b>|What is <w>{,|:} the <a> or the <b>}", rng, w=asked, a=first, b=second)
        # Both are named in the answer, so the order is what is graded.
        return result("compare", finish(question, rng), f"The {pick} is {word} than the {rest}.",
                      [[f"the {pick} is {word}"]], [f"the {rest} is {word}"])
    if kind < 0.78:
        subject, first, second = compared_pair(objects, o, p, "shape", pair_only, rng)
        if subject is None:
            return None
        question = expand("{{Are|Do} <s> {|both |}{the same|of the same} {colour|color}|Do <s> have the same {colour|color}"
                          "|Is the {colour|color} of <s> the same|Do <s> {share|have} {the same|one} {colour|color}}", rng, s=subject)
        question = question.replace("Do " + subject + " the", "Are " + subject + " the").replace("Do " + subject + " of", "Are " + subject + " of")
        question = question.replace("Do " + subject + " both", "Are " + subject + " both")
        same = o["colour"] == p["colour"]
        answer = f"Yes, both are {o['colour']}." if same else f"No, one is {first['colour']} and the other is {second['colour']}."
        return dict(yes_or_no(question, same, answer, rng), kind="compare")
    subject, first, second = compared_pair(objects, o, p, "colour", pair_only, rng)
    if subject is None:
        return None
    question = expand("{Are <s> {|both |}{the same|of the same} shape|Do <s> have the same shape|Is the shape of <s> the same"
                      "|Do <s> {share|have} {the same|one} shape}", rng, s=subject)
    same = o["shape"] == p["shape"]
    answer = f"Yes, both are {PLURAL[o['shape']]}." if same else f"No, one is {a(first['shape'])} and the other is {a(second['shape'])}."
    return dict(yes_or_no(question, same, answer, rng), kind="compare")


def compared_pair(objects, o, p, by, pair_only, rng):
    """A phrase for two objects by their shape or colour, and the two in the order the answer names them."""
    if o[by] != p[by] and sum(q[by] == o[by] for q in objects) == 1 and sum(q[by] == p[by] for q in objects) == 1 and not (pair_only and rng.random() < 0.4):
        word = "" if by == "shape" else " " + expand("{object|thing|one}", rng)
        return f"the {o[by]}{word} and the {p[by]}{word}", o, p
    if pair_only:
        left, right = sorted(objects, key=lambda q: q["x"])
        return expand("{the two {objects|shapes|things|figures}|both {objects|shapes}}", rng), left, right
    return None, None, None


def listing(objects):
    """The objects from left to right, alike ones together, with the phrases that name them."""
    groups = []
    for o in sorted(objects, key=lambda q: q["x"]):
        for group in groups:
            if name(group[0]) == name(o):
                group.append(o)
                break
        else:
            groups.append([o])
    phrases = [a(name(g[0])) if len(g) == 1 else f"{NUMBERS[len(g)]} {g[0]['colour']} {PLURAL[g[0]['shape']]}" for g in groups]
    required = [name(g[0]) if len(g) == 1 else p for g, p in zip(groups, phrases)]
    text = phrases[0] if len(phrases) == 1 else ", ".join(phrases[:-1]) + " and " + phrases[-1]
    return text, required


def ask_describe(scene, rng):
    objects = scene["objects"]
    text, required = listing(objects)
    n = len(objects)
    question = expand(
        "{Describe {the|this} {picture|image|scene|drawing}|Describe what {you see|is shown|is in the {picture|image}}"
        "|Give {a|a short} description of {the|this} {picture|image}|Describe the {objects|shapes}" + IN_PLAIN + "}", rng)
    request = True
    if rng.random() < 0.55:
        question = expand("{What {can|do} you see" + IN_PLAIN + "|What is {shown|} in {the|this} {picture|image|photo|scene|drawing}"
                          "|What does {the|this} {picture|image} show|What {objects|shapes|things} {are there|do you see|are shown}" + IN_PLAIN
                          + "|{Can|Could} you describe {the|this} {picture|image}|What is this {a picture|an image} of}", rng)
        request = False
    if n == 1:
        answer = f"The picture shows {text}."
    elif n == 2:
        answer = f"The picture shows {text}."
        if len(required) == 2:
            left, right = sorted(objects, key=lambda q: q["x"])
            where = relation(scene, left, right)
            if where is not None:
                answer += f" The {left['shape']} is {PHRASE[where]} the {right['shape']}." if left["shape"] != right["shape"] else \
                    f" The {left['colour']} one is {PHRASE[where]} the {right['colour']} one."
    else:
        answer = f"The picture shows {NUMBERS[n]} objects: {text}."
    return result("describe", finish(question, rng, request), answer, [required], unused_words(objects))


ASK = {"colour": ask_colour, "shape": ask_shape, "count": ask_count, "position": ask_position,
       "yesno": ask_yesno, "compare": ask_compare, "describe": ask_describe}
SHARE = {"colour": 0.17, "shape": 0.14, "count": 0.13, "position": 0.18, "yesno": 0.17, "compare": 0.11, "describe": 0.10}


def ask(scene, rng, kind=None):
    """One question of this kind, or of a random one; None if the scene does not lend itself to the kind."""
    for _ in range(40):
        chosen = kind or KINDS[rng.choice(len(KINDS), p=[SHARE[k] for k in KINDS])]
        found = ASK[chosen](scene, rng)
        if found is not None:
            return found
    return None


# ---------------------------------------------------------------------------------------------------
# Grading


def words_of(text):
    return re.findall(r"[a-z0-9]+", text.lower())


def contains(words, phrase):
    wanted = words_of(phrase)
    return any(words[i : i + len(wanted)] == wanted for i in range(len(words) - len(wanted) + 1))


def grade(entry, answer):
    """True if all phrases of one of the lists in `accept` occur and none of `reject` does."""
    words = words_of(answer)
    return (any(all(contains(words, phrase) for phrase in phrases) for phrases in entry["accept"])
            and not any(contains(words, phrase) for phrase in entry["reject"]))
