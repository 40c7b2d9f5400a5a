#!/usr/bin/env python3
"""Answers under random JSON Schemas, validated by jsonschema with its format checker.

check.py BUILD SOURCE [N_SCHEMAS [N_SEEDS]]: makes N_SCHEMAS (500) random schemas, has each bundled model answer them at
each level of instruction sets, and checks that every answer is JSON that jsonschema accepts; that modified answers that jsonschema refuses are refused
by the grammar, too; and that values made here from schemas, written in several ways, are accepted by it.
Exit status 1 if anything is wrong.
"""
import concurrent.futures
import copy
import fractions
import json
import multiprocessing
import os
import random
import re
import subprocess
import sys

import jsonschema

LEVELS = ("scalar", "avx2", "avxvnni", "avx512", "avx512vnni", "avx512bf16", "amx")

# ---- random schemas ----------------------------------------------------------------------------

PATTERNS = [  # pattern, examples
    (r"^[a-z]{2,5}$", ["ab", "hello"]),
    (r"^\d{3}-\d{4}$", ["555-1234"]),
    (r"^(cat|dog|bird)s?$", ["cat", "dogs"]),
    (r"[A-Z]\d", ["A1", "xB2y"]),
    (r"^#[0-9a-fA-F]{6}$", ["#00ffAA"]),
    (r"^\S+ \S+$", ["John Smith"]),
    (r"^[^@\s]+@[a-z]+\.(com|org)$", ["me@site.org"]),
    (r"e$", ["e", "apple"]),
    (r"^$|^x+y?$", ["", "xxy"]),
    ("^[\u00e0-\u00ff]+$", ["\u00e9\u00e8"]),
    (r"^(?=.*\d)(?=.*[a-z]).{4,8}$", ["a1b2", "xyz-9"]),
    (r"^(?!foo|bar$)[a-z]+$", ["fo", "bark"]),
    (r"^P(?:(\d+W)|(?!.*W)(?=\d|T\d)(\d+Y)?(\d+M)?(\d+D)?(T(?=\d)(\d+H)?(\d+M)?)?)$", ["P1W", "P1DT2H"]),
    (r"a(?!b)", ["ab a", "ca"]),
]
FORMATS = {
    "date": ["2024-02-29", "1999-12-31"],
    "time": ["23:59:59Z", "00:00:00.5+01:00"],
    "date-time": ["2024-02-29T12:00:00Z", "2001-01-01T01:02:03-08:00"],
    "uuid": ["123e4567-e89b-12d3-a456-426614174000"],
    "email": ["a@b.co", "first.last+tag@sub.example.com"],
    "uri": ["https://example.com/a?b=c#d", "mailto:a@b.co", "urn:x:y"],
    "hostname": ["localhost", "a-b.example.com"],
    "ipv4": ["192.168.0.1", "0.0.0.0"],
    "ipv6": ["::1", "2001:db8::8a2e:370:7334", "::ffff:1.2.3.4"],
    "duration": ["P1W", "P1Y2M3DT4H5M6S", "PT0.5S"],
    "json-pointer": ["", "/a/b~0c"],
}
WORDS = ["name", "age", "color", "size", "items", "kind", "count", "x", "y", "note", "caf\u00e9", "is_ok", "a b", "q\"t"]


class Generator:
    """Schemas with a value that satisfies each: the value is made here, without the grammar."""

    def __init__(self, seed):
        self.r = random.Random(seed)
        self.defs = {}

    def schema(self, depth):
        kinds = ["string", "integer", "number", "boolean", "null", "enum", "const", "pattern", "format", "format", "types", "decimal", "not"]
        if depth > 0:
            kinds += ["object", "object", "object", "array", "array", "tuple", "anyOf", "oneOf", "tagged", "allOf", "ref", "map",
                      "patterns", "counted", "set", "nested"]
        kind = self.r.choice(kinds)
        schema, value = getattr(self, "make_" + kind)(depth)
        if self.r.random() < 0.2:
            schema = dict(schema, title="Title", description="What it is.", default=None, examples=[1])
        return schema, value

    def make_string(self, depth):
        schema, value = {"type": "string"}, self.r.choice(["", "hello", "na\u00efve \U0001f600", "a\"b\\c\n/", "\u4e2d\u6587"])
        if self.r.random() < 0.4:
            schema["minLength"] = self.r.randint(0, len(value))
        if self.r.random() < 0.4:
            schema["maxLength"] = len(value) + self.r.randint(0, 20)
        return schema, value

    def make_pattern(self, depth):
        pattern, examples = self.r.choice(PATTERNS)
        value = self.r.choice(examples)
        schema = {"type": "string", "pattern": pattern}
        if self.r.random() < 0.4:
            schema["maxLength"] = len(value) + self.r.randint(0, 3)
        if self.r.random() < 0.2:
            schema["minLength"] = len(value)
        return schema, value

    def make_format(self, depth):
        name = self.r.choice(list(FORMATS))
        schema, value = {"type": "string", "format": name}, self.r.choice(FORMATS[name])
        if self.r.random() < 0.2:
            schema["maxLength"] = 100
        return schema, value

    def bounds(self, schema, value, step):
        if self.r.random() < 0.5:
            key = self.r.choice(["minimum", "exclusiveMinimum"])
            schema[key] = value - step * self.r.randint(1, 100)
        if self.r.random() < 0.5:
            key = self.r.choice(["maximum", "exclusiveMaximum"])
            schema[key] = value + step * self.r.randint(1, 100)
        return schema

    def make_integer(self, depth):
        value = self.r.choice([0, 1, -1, 7, 42, 1000, -250, 123456789, self.r.randint(-10**6, 10**6)])
        schema = self.bounds({"type": "integer"}, value, self.r.choice([1, 10, 1000]))
        if self.r.random() < 0.3:
            divisors = [d for d in (1, 2, 3, 5, 7, 10, 12, 100) if value % d == 0]
            schema["multipleOf"] = self.r.choice(divisors)
        return schema, value

    def make_number(self, depth):
        value = self.r.choice([0, 0.5, -2.25, 1e3, 3.14159, 0.1, self.r.uniform(-100, 100), round(self.r.uniform(0, 1), 3)])
        return self.bounds({"type": "number"}, value, self.r.choice([0.01, 0.1, 1, 17.3])), value

    def make_decimal(self, depth):
        """Multiples of what halving makes exact: jsonschema divides as floats."""
        step = self.r.choice([0.5, 0.25, 0.125, 1.5, 0.75])
        value = step * self.r.randint(-200, 200)
        return self.bounds({"type": "number", "multipleOf": step}, value, self.r.choice([0.3, 1, 17])), value

    def make_not(self, depth):
        return {"type": ["string", "null", "integer"], "not": {"type": "string"}}, self.r.choice([None, 3])

    def make_boolean(self, depth):
        return {"type": "boolean"}, self.r.random() < 0.5

    def make_null(self, depth):
        return {"type": "null"}, None

    def make_types(self, depth):
        types = self.r.sample(["string", "integer", "boolean", "null"], 2)
        return {"type": types}, {"string": "s", "integer": 5, "boolean": True, "null": None}[types[0]]

    def constant(self):
        return copy.deepcopy(self.r.choice(["red", "", 1, -3, 2.5, True, None, [1, "a"], {"k": {"l": []}}, "\u00e9\n"]))

    def make_enum(self, depth):
        values = [self.constant() for _ in range(self.r.randint(1, 4))]
        return {"enum": values}, self.r.choice(values)

    def make_const(self, depth):
        value = self.constant()
        return {"const": value}, value

    def make_object(self, depth):
        schema, value, required = {"type": "object", "properties": {}}, {}, []
        for name in self.r.sample(WORDS, self.r.randint(0, 4)):
            schema["properties"][name], one = self.schema(depth - 1)
            if self.r.random() < 0.6:
                required.append(name)
                value[name] = one
            elif self.r.random() < 0.5:
                value[name] = one
        if required:
            schema["required"] = required
        choice = self.r.random()
        if choice < 0.5:
            schema["additionalProperties"] = False
        elif choice < 0.7:
            schema["additionalProperties"], one = self.schema(depth - 1)
            value["zz"] = one
        elif choice < 0.8:
            value["other"] = {"any": [1, 2.5, "x", None]}
        return schema, value

    def make_map(self, depth):
        inner, one = self.schema(depth - 1)
        return {"type": "object", "additionalProperties": inner, "propertyNames": {"pattern": "^[a-z]+$"}}, {"k": one, "key": one}

    def make_patterns(self, depth):
        """patternProperties beside declared ones, and what is left to additionalProperties."""
        first, one = self.schema(depth - 1)
        schema, value = {"type": "object", "patternProperties": {"^x_": first}}, {"x_1": one}
        if self.r.random() < 0.5:
            schema["patternProperties"]["_n$"] = {"type": ["integer", "null"]}
            value["k_n"] = self.r.choice([None, 4])
        if self.r.random() < 0.5:
            schema["properties"] = {"name": {"type": "string"}, "gone": {"not": {}}}
            value = {"name": "n", **value}
        choice = self.r.random()
        if choice < 0.4:
            schema["additionalProperties"] = False
        elif choice < 0.6:
            schema["additionalProperties"], value["other"] = self.schema(depth - 1)
        if self.r.random() < 0.3:
            schema["propertyNames"] = {"maxLength": 8}
        return schema, value

    def make_counted(self, depth):
        inner, one = self.schema(depth - 1)
        if self.r.random() < 0.5:
            n = self.r.randint(1, 4)
            return ({"type": "object", "additionalProperties": inner, "minProperties": 1, "maxProperties": n},
                    {f"k{i}": copy.deepcopy(one) for i in range(self.r.randint(1, n))})
        names = self.r.sample(WORDS, 4)
        some = self.r.randint(1, 3)
        return ({"type": "object", "properties": {name: inner for name in names}, "additionalProperties": False,
                 "minProperties": some, "maxProperties": self.r.randint(some, 4)},
                {name: copy.deepcopy(one) for name in names[:some]})

    def make_set(self, depth):
        values = self.r.sample(["red", "green", "blue", 1, 2.5, None, [1], {"k": 2}], self.r.randint(2, 5))
        items = {"enum": values}
        if self.r.random() < 0.3:
            items = {"anyOf": [items, {"type": "boolean"}]}
        n = self.r.randint(0, len(values))
        schema = {"type": "array", "items": items, "uniqueItems": True}
        if self.r.random() < 0.4:
            schema["minItems"] = self.r.randint(0, n)
        if self.r.random() < 0.4:
            schema["maxItems"] = self.r.randint(n, n + 2)
        return schema, self.r.sample(values, n)

    def make_nested(self, depth):
        """A model as pydantic writes it: optional fields, an enum, a list of models."""
        item, one = self.make_object(depth - 1)
        schema = {"title": "Outer", "type": "object", "properties": {
            "email": {"format": "email", "title": "Email", "type": "string"},
            "when": {"anyOf": [{"format": "date-time", "type": "string"}, {"type": "null"}], "default": None},
            "tags": {"items": {"enum": ["a", "b"], "type": "string"}, "type": "array", "uniqueItems": True, "default": []},
            "items": {"items": item, "type": "array"}}, "required": ["email", "items"]}
        return schema, {"email": "a@b.co", "when": None, "tags": ["b"], "items": [one]}

    def make_array(self, depth):
        items, one = self.schema(depth - 1)
        n = self.r.randint(0, 3)
        schema = {"type": "array", "items": items}
        if self.r.random() < 0.5:
            schema["minItems"] = self.r.randint(0, n)
        if self.r.random() < 0.5:
            schema["maxItems"] = n + self.r.randint(0, 3)
        return schema, [copy.deepcopy(one) for _ in range(n)]

    def make_tuple(self, depth):
        parts = [self.schema(depth - 1) for _ in range(self.r.randint(1, 3))]
        schema = {"type": "array", "prefixItems": [s for s, _ in parts], "minItems": len(parts)}
        if self.r.random() < 0.6:
            schema["items"] = False
        return schema, [v for _, v in parts]

    def make_anyOf(self, depth):
        parts = [self.schema(depth - 1) for _ in range(self.r.randint(1, 3))]
        return {"anyOf": [s for s, _ in parts]}, self.r.choice(parts)[1]

    def make_oneOf(self, depth):
        one, value = self.make_object(depth)
        other, _ = self.make_array(depth)
        return {"oneOf": [one, other, {"type": "null"}]}, value

    def make_tagged(self, depth):
        branches, values = [], []
        for tag in self.r.sample(["cat", "dog", "cow"], 2):
            branch, value = self.make_object(depth)
            branch["properties"] = {"type": {"const": tag}, **branch["properties"]}
            branch["required"] = ["type"] + branch.get("required", [])
            branches.append(branch)
            values.append({"type": tag, **value})
        return {"oneOf": branches, "discriminator": {"propertyName": "type"}}, self.r.choice(values)

    def make_allOf(self, depth):
        first, value = self.make_object(depth)
        first.pop("additionalProperties", None)
        value = {k: v for k, v in value.items() if k in first["properties"]}
        second = {"type": "object", "properties": {"extra": {"type": "integer"}}, "required": ["extra"]}
        return {"allOf": [first, second]}, {**value, "extra": 3}

    def make_ref(self, depth):
        name = f"D{len(self.defs)}"
        if self.r.random() < 0.5:
            self.defs[name] = {}
            inner, value = self.schema(depth - 1)
            self.defs[name] = inner
            return {"$ref": f"#/$defs/{name}"}, value
        self.defs[name] = {
            "type": "object",
            "properties": {"value": {"type": "integer"}, "next": {"anyOf": [{"$ref": f"#/$defs/{name}"}, {"type": "null"}]}},
            "required": ["value", "next"],
            "additionalProperties": False,
        }
        return {"$ref": f"#/$defs/{name}"}, {"value": 1, "next": {"value": 2, "next": None}}


def random_schema(seed):
    g = Generator(seed)
    schema, value = g.schema(3)
    if g.defs:
        schema = dict(schema)
        schema["$defs"] = g.defs
    return schema, value


# ---- checks ------------------------------------------------------------------------------------

failures = 0


def failed(what, schema, text):
    global failures
    failures += 1
    if failures <= 20:
        print(f"FAILED: {what}\n  schema {json.dumps(schema)}\n  text {text}")


def multiple_of(validator, divisor, value, schema):
    """As the standard has it: jsonschema divides as floats, for which 0.07 is not a multiple of 0.01."""
    if validator.is_type(value, "number") and fractions.Fraction(str(value)) % fractions.Fraction(str(divisor)):
        yield jsonschema.ValidationError(f"{value} is not a multiple of {divisor}")


def validator(schema, standard=jsonschema.Draft202012Validator):
    own = jsonschema.validators.extend(standard, {"multipleOf": multiple_of})
    return own(schema, format_checker=standard.FORMAT_CHECKER)


def is_valid(v, text):
    """Whether text is JSON that the schema accepts; patterns are ECMA's, where $ is the very end."""
    try:
        value = json.loads(text)
    except ValueError:
        return False
    return v.is_valid(value)


def mutations(text, r):
    yield text[:-1]
    yield text + "x"
    yield text.replace('"', "'", 1)
    for _ in range(6):
        i = r.randrange(len(text) + 1)
        yield text[:i] + r.choice(list('0919-.,:{}[]"ae \\')) + text[i:]
        i = r.randrange(len(text))
        yield text[:i] + text[i + 1:]
        i = r.randrange(len(text))
        yield text[:i] + r.choice("0195-xz") + text[i + 1:]
    numbers = [m for m in re.finditer(r"-?\d+(\.\d+)?", text)]
    for m in numbers[:4]:
        yield text[:m.start()] + r.choice(["99999", "-99999", "0", "1.5"]) + text[m.end():]


def ask_grammar(build, blocks):
    """blocks: (schema, texts). Lists of whether each text is accepted; None for a schema that is refused."""
    lines = []
    for schema, texts in blocks:
        lines += [json.dumps(schema)] + texts + [""]
    out = subprocess.run([f"{build}/schema-check"], input="\n".join(lines) + "\n", text=True, capture_output=True, check=True)
    answers = iter(out.stdout.split("\n"))
    results = []
    for schema, texts in blocks:
        first = next(answers)
        answered = [next(answers) == "yes" for _ in texts]
        if first != "ok":
            failed("the schema is refused: " + first, schema, "")
            answered = None
        results.append(answered)
    return results


def check_written(build, schemas):
    """Values that were not made by the grammar are accepted by it, in the usual ways of writing."""
    blocks = []
    for schema, value in schemas:
        if not validator(schema).is_valid(value):
            continue
        blocks.append((schema, [json.dumps(value), json.dumps(value, separators=(",", ":")),
                                json.dumps(value, ensure_ascii=False)]))
    for (schema, texts), answered in zip(blocks, ask_grammar(build, blocks)):
        for text, ok in zip(texts, answered or []):
            if not ok:
                failed("a valid value is refused", schema, text)
    print(f"{len(blocks)} schemas accept values written three ways")
    return len(blocks)


def generate(build, level, model, schemas, n_seeds):
    """What a model answers at a level of instruction sets, None for the best one; None where this machine has not got it."""
    texts = "\n".join(json.dumps(s) for s, _ in schemas) + "\n"
    command = [f"{build}/at-level", level] if level else []
    out = subprocess.run(command + [f"{build}/schema-answers", model, str(n_seeds), "120"], input=texts, text=True,
                         capture_output=True)
    if level and out.returncode == 77:
        return None
    if out.returncode != 0:
        failed(f"schema-answers ended with {out.returncode}: {out.stderr}", {}, "")
    return out.stdout.split("\n")


def check_one(work):
    """The answers under one schema: which are valid, and the changed ones that are not."""
    schema, texts, seed = work
    v, r = validator(schema), random.Random(seed)
    valid = [is_valid(v, text) for text in texts]
    changed = {m for text, good in zip(texts, valid) if good for m in mutations(text, r) if m}
    return valid, sorted(m for m in changed if not is_valid(v, m))


def check_answers(name, answers, schemas, n_seeds, known, workers):
    """known: results of check_one by schema and texts, which do not depend on the level: most levels answer alike."""
    work = []
    for i, (schema, _) in enumerate(schemas):
        texts = tuple(t for t in answers[i * n_seeds:(i + 1) * n_seeds] if not t.startswith("short "))
        work.append((schema, texts, i))
    new = [w for w in work if (w[2], w[1]) not in known]
    for (_, texts, i), result in zip(new, workers.map(check_one, new, chunksize=8)):
        known[i, texts] = result
    n_valid, n_answers = 0, 0
    for schema, texts, i in work:
        n_answers += len(texts)
        for text, good in zip(texts, known[i, texts][0]):
            n_valid += good
            if not good:
                failed("an answer is not valid", schema, text)
    blocks = [(schema, known[i, texts][1]) for schema, texts, i in new if known[i, texts][1]]
    for (schema, mutated), answered in zip(blocks, ask_grammar(build_folder, blocks)):
        for text, ok in zip(mutated, answered or []):
            if ok:
                failed("an invalid text is accepted", schema, text)
    print(f"{name}: {n_valid} answers valid, {len(schemas) * n_seeds - n_answers} do not fit the limit, "
          f"{sum(len(m) for _, m in blocks)} changed ones are refused by both")
    if n_valid < len(schemas) * n_seeds * 0.8:
        failed("too few answers", {}, "")


def check_libraries(build, source):
    """Schemas as pydantic and zod wrote them: those that are refused are refused at their place, the others answered."""
    with open(f"{source}/tests/schema/libraries.jsonl") as file:
        rows = [json.loads(line) for line in file]
    lines = "".join(json.dumps(row["schema"]) + "\n\n" for row in rows)
    out = subprocess.run([f"{build}/schema-check"], input=lines, text=True, capture_output=True, check=True)
    for row, printed in zip(rows, out.stdout.split("\n")):
        expected = row.get("refused")
        if printed != "ok" if expected is None else printed == "ok" or expected not in printed:
            failed(f"{row['name']}, expected {expected or 'ok'}", row["schema"], printed)
    answered = [row for row in rows if "refused" not in row]
    n_valid = 0
    for model in ("trol-tiny-internlm2", "trol-tiny-phi3"):
        answers = generate(build, None, f"{source}/models/{model}", [(row["schema"], None) for row in answered], 2)
        for i, text in enumerate(answers[:2 * len(answered)]):
            name, schema = answered[i // 2]["name"], answered[i // 2]["schema"]
            old = name.startswith("zod-to-json-schema")
            if is_valid(validator(schema, jsonschema.Draft7Validator if old else jsonschema.Draft202012Validator), text):
                n_valid += 1
            elif not text.startswith("short "):
                failed(f"an answer to {name}", schema, text)
    print(f"{len(rows)} schemas of pydantic and zod: {len(answered)} are supported, {n_valid} answers valid")
    if n_valid < 3.8 * len(answered):
        failed("too few answers", {}, "")


def main():
    global build_folder
    build_folder, source = sys.argv[1:3]
    n_schemas = int(sys.argv[3]) if len(sys.argv) > 3 else 500
    n_seeds = int(sys.argv[4]) if len(sys.argv) > 4 else 2
    schemas = [random_schema(seed) for seed in range(n_schemas)]
    if check_written(build_folder, schemas) < min(50, n_schemas // 2):
        failed("too few values", {}, "")
    check_libraries(build_folder, source)
    runs = [(level, model) for level in (None, *LEVELS) for model in ("trol-tiny-internlm2", "trol-tiny-phi3")]
    known = {}
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as generating, multiprocessing.Pool() as workers:
        answers = [generating.submit(generate, build_folder, level, f"{source}/models/{model}", schemas, n_seeds)
                   for level, model in runs]
        for (level, model), made in zip(runs, answers):
            if made.result() is not None:
                check_answers(f"{model}, {level or 'best level'}", made.result(), schemas, n_seeds,
                              known.setdefault(model, {}), workers)
    print(f"{failures} failed")
    sys.exit(failures > 0)


if __name__ == "__main__":
    main()
