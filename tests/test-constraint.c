/* test-constraint.c - JSON Schemas: texts that they accept and refuse, schemas that are refused; masks over a
 * vocabulary against a text tried token by token; the reserve; answers of the bundled models. */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/json_schema.h"
#include "engine/matcher.h"
#include "engine/model.h"
#include "engine/vocabulary.h"
#include "files.h"
#include "session_cases.h"

/* ---- schemas --------------------------------------------------------------------------------- */

static matcher *compile(const char *schema) {
    trol_error error = {0};
    grammar *g = NULL;
    matcher *m = NULL;
    CHECK_OK(json_schema_compile(schema, strlen(schema), &g, &error), error);
    if (g)
        CHECK_OK(matcher_new(g, &m, &error), error);
    return m;
}

static bool matches(matcher *m, const char *text) {
    uint32_t state = MATCHER_START;
    trol_error error = {0};
    for (; *text && state; text++)
        CHECK_OK(matcher_step(m, state, (uint8_t)*text, &state, &error), error);
    return state != MATCHER_DEAD && matcher_accepts(m, state);
}

static void check_schema(const char *schema, const char *const *yes, const char *const *no) {
    matcher *m = compile(schema);
    for (; m && *yes; yes++)
        CHECK(matches(m, *yes), "%s\n  accepts %s", schema, *yes);
    for (; m && *no; no++)
        CHECK(!matches(m, *no), "%s\n  refuses %s", schema, *no);
    matcher_free(m);
}

#define LIST(...)                                                                                                      \
    (const char *const[]) { __VA_ARGS__, NULL }

static void test_scalars(void) {
    check_schema("{\"type\": \"integer\"}", LIST("0", "-7", "123456789012345678"),
                 LIST("", "01", "1.5", "1e3", "-", "--1"));
    check_schema("{\"type\": \"number\"}", LIST("0", "-7.25", "1e-07", "1.5E+289", "0.30000000000000004"),
                 LIST(".5", "1.", "1e999", "01", "NaN"));
    check_schema("{\"type\": \"integer\", \"minimum\": -12, \"exclusiveMaximum\": 105}",
                 LIST("-12", "-1", "0", "9", "99", "104", "-9"), LIST("-13", "105", "-99", "-0", "1000", "110"));
    check_schema("{\"type\": \"integer\", \"exclusiveMinimum\": 1.5, \"maximum\": 3.9}", LIST("2", "3"),
                 LIST("1", "4", "0"));
    check_schema("{\"type\": \"integer\", \"minimum\": 7, \"multipleOf\": 6}", LIST("12", "18", "600"),
                 LIST("6", "7", "13", "0"));
    check_schema("{\"type\": \"integer\", \"maximum\": -3}", LIST("-3", "-10", "-99999"), LIST("-2", "0", "3"));
    check_schema("{\"type\": \"number\", \"minimum\": 0.5, \"exclusiveMaximum\": 2.25}",
                 LIST("0.5", "0.50", "1", "2.2499", "2", "1.0"),
                 LIST("0.49", "2.25", "2.250", "0", "3", "-1", "0.4999999"));
    check_schema("{\"type\": \"number\", \"exclusiveMinimum\": 0}", LIST("0.1", "0.00001", "7"),
                 LIST("0", "0.0", "-1"));
    check_schema("{\"type\": \"number\", \"minimum\": 0}", LIST("0", "0.0", "1e9", "3.25"), LIST("-1", "-0.5"));
    check_schema("{\"type\": \"number\", \"minimum\": -1.5, \"maximum\": 1.5}",
                 LIST("-1.5", "1.5", "0", "-0.25", "1.49"), LIST("-1.51", "1.500001", "2", "-2"));
    check_schema("{\"type\": \"number\", \"multipleOf\": 0.25}", LIST("0", "1.25", "-3.5", "7", "100.75"),
                 LIST("0.1", "1.3", "0.125", "1e3"));
    check_schema("{\"type\": \"number\", \"multipleOf\": 0.01, \"minimum\": 0.5, \"exclusiveMaximum\": 10}",
                 LIST("0.5", "0.57", "9.99", "3"), LIST("0.49", "10", "0.505", "0"));
    check_schema("{\"type\": \"number\", \"multipleOf\": 0.1, \"maximum\": -0.05}", LIST("-0.1", "-7.3"),
                 LIST("-0.0", "0", "-0.05", "0.1"));
    check_schema("{\"type\": \"integer\", \"allOf\": [{\"multipleOf\": 0.5}, {\"multipleOf\": 1.5}]}",
                 LIST("3", "0", "-6"), LIST("1", "2", "4", "1.5"));
    check_schema("{\"type\": [\"boolean\", \"null\"]}", LIST("true", "false", "null"), LIST("0", "\"true\"", "nul"));
    check_schema("{\"enum\": [\"a\", 1, null, {\"k\": [1, \"\xc3\xa9\"]}, 2.5]}",
                 LIST("\"a\"", "1", "null", "{\"k\":[1,\"\xc3\xa9\"]}", "{\"k\": [1, \"\\u00e9\"]}", "2.5"),
                 LIST("\"b\"", "2", "{}", "{\"k\":[1]}"));
    check_schema("{\"type\": \"string\", \"enum\": [\"a\", 1, \"bcd\"], \"minLength\": 2}", LIST("\"bcd\""),
                 LIST("\"a\"", "1"));
    check_schema("{\"const\": \"x\\\"y\\n/\"}", LIST("\"x\\\"y\\n/\"", "\"x\\u0022y\\n\\/\""),
                 LIST("\"x\"", "\"x\\\"y\n/\""));
}

static void test_strings(void) {
    check_schema(
        "{\"type\": \"string\"}",
        LIST("\"\"", "\"a\\n\\u00e9\xe2\x82\xac\"", "\"\\ud83d\\ude00\"", "\"\\u0000\"", "\"/ \\/\""),
        LIST("\"", "\"\n\"", "\"\\ud83d\"", "\"\\ude00\\ud83d\"", "\"\\x\"", "\"\xff\"", "\"\\u12\"", "\"a\"b"));
    check_schema("{\"type\": \"string\", \"minLength\": 2, \"maxLength\": 3}",
                 LIST("\"ab\"", "\"\xc3\xa9\xf0\x9f\x98\x80\"", "\"\\n\\ud83d\\ude00x\""),
                 LIST("\"a\"", "\"abcd\"", "\"\xc3\xa9\""));
    check_schema("{\"type\": \"string\", \"pattern\": \"^[a-z]{2,}(-\\\\d+)?$\", \"maxLength\": 6}",
                 LIST("\"ab\"", "\"ab-123\"", "\"abcdef\""),
                 LIST("\"a\"", "\"ab-1234\"", "\"abcdefg\"", "\"AB\"", "\"ab-\""));
    check_schema("{\"type\": \"string\", \"pattern\": \"b\"}", LIST("\"b\"", "\"abc\"", "\"\xc3\xa9\\nb\""),
                 LIST("\"\"", "\"ac\""));
    check_schema("{\"type\": \"string\", \"pattern\": \"^a|b$\"}", LIST("\"ax\"", "\"xb\"", "\"a\""),
                 LIST("\"xa\"", "\"bx\""));
    check_schema("{\"type\": \"string\", \"pattern\": \"^(?:a|(b|c)*?d)\\\\.[^x]$\"}",
                 LIST("\"a.y\"", "\"bcd.y\"", "\"d.\\n\""), LIST("\"bc.y\"", "\"a.x\"", "\"aty\""));
    check_schema("{\"allOf\": [{\"type\": \"string\", \"pattern\": \"a\"}, {\"pattern\": \"^.{3}$\"}]}",
                 LIST("\"xay\"", "\"aaa\""), LIST("\"xyz\"", "\"a\"", "\"aaaa\""));
    check_schema("{\"type\": \"string\", \"format\": \"date\"}",
                 LIST("\"2024-02-29\"", "\"2000-02-29\"", "\"0001-12-31\""),
                 LIST("\"2023-02-29\"", "\"1900-02-29\"", "\"0000-01-01\"", "\"2024-04-31\"", "\"2024-13-01\"",
                      "\"2024-1-01\""));
    check_schema("{\"type\": \"string\", \"format\": \"date-time\"}",
                 LIST("\"2024-02-29T23:59:59Z\"", "\"1999-01-01T00:00:00.123+05:30\""),
                 LIST("\"2024-02-29\"", "\"2024-02-29T24:00:00Z\"", "\"2024-02-29T23:59:59\""));
    check_schema("{\"type\": \"string\", \"format\": \"time\", \"maxLength\": 9}", LIST("\"00:00:00Z\""),
                 LIST("\"00:00:00+00:00\""));
    check_schema("{\"type\": \"string\", \"format\": \"uuid\"}", LIST("\"123e4567-e89b-12d3-A456-426614174000\""),
                 LIST("\"123e4567e89b12d3a456426614174000\"", "\"123e4567-e89b-12d3-a456-42661417400g\""));
}

static void test_look_ahead(void) {
    check_schema("{\"type\": \"string\", \"pattern\": \"^(?=.*\\\\d)(?=.*[a-z]).{3,6}$\"}",
                 LIST("\"a1b\"", "\"1aaaaa\"", "\"--a-7\""), LIST("\"abc\"", "\"123\"", "\"a1\"", "\"a1-----\""));
    check_schema("{\"type\": \"string\", \"pattern\": \"^(?!foo|bar$)[a-z]+$\"}",
                 LIST("\"a\"", "\"fo\"", "\"barn\"", "\"f\""), LIST("\"foo\"", "\"food\"", "\"bar\"", "\"\""));
    check_schema("{\"type\": \"string\", \"pattern\": \"a(?!b)\"}", LIST("\"a\"", "\"aba\"", "\"aab\""),
                 LIST("\"ab\"", "\"b\"", "\"abab\""));
    check_schema("{\"type\": \"string\", \"pattern\": \"^(?:(?!ab).)*$\"}", LIST("\"\"", "\"ba\"", "\"aac\""),
                 LIST("\"ab\"", "\"xaab\""));
    check_schema("{\"type\": \"string\", \"pattern\": \"^(?!(?:a*)*b)[abc]+$\"}", LIST("\"c\"", "\"aacb\""),
                 LIST("\"b\"", "\"aab\"", "\"\""));
    check_schema("{\"type\": \"string\", \"pattern\": \"^(?:a(?=b|$)|(?:(?=c)c)*)+b?$\"}",
                 LIST("\"a\"", "\"ab\"", "\"cca\"", "\"b\""), LIST("\"aa\"", "\"ac\"", "\"d\""));
}

static void test_formats(void) {
    check_schema("{\"type\": \"string\", \"format\": \"email\"}",
                 LIST("\"a@b.co\"", "\"first.last+tag@sub.example.com\"", "\"o'x@c-d.info\""),
                 LIST("\"a@b\"", "\"a..b@c.de\"", "\".a@c.de\"", "\"a@-c.de\"", "\"a b@c.de\"", "\"a@b.c\""));
    check_schema("{\"type\": \"string\", \"format\": \"uri\"}",
                 LIST("\"http://a.b/c?d=e#f\"", "\"mailto:a@b.c\"", "\"file:///etc/x\"", "\"https://u:p@h:80/%20\""),
                 LIST("\"a.b\"", "\"http://\"", "\"http:x\"", "\"//x\"", "\"http://a b\"", "\"ftp://h/%zz\""));
    check_schema("{\"type\": \"string\", \"format\": \"ipv4\"}", LIST("\"1.2.3.4\"", "\"255.0.0.10\""),
                 LIST("\"1.2.3\"", "\"256.1.1.1\"", "\"01.2.3.4\""));
    check_schema("{\"type\": \"string\", \"format\": \"ipv6\"}",
                 LIST("\"::\"", "\"2001:db8::1\"", "\"1:2:3:4:5:6:7::\"", "\"::ffff:1.2.3.4\""),
                 LIST("\"1::2::3\"", "\":::\"", "\"1:2:3:4:5:6:7:8::\"", "\"12345::\"", "\"g::\""));
    check_schema("{\"type\": \"string\", \"format\": \"hostname\"}", LIST("\"localhost\"", "\"a-b.c\"", "\"1.2\""),
                 LIST("\"-a\"", "\"a..b\"", "\"\"", "\"a.\""));
    check_schema("{\"type\": \"string\", \"format\": \"duration\"}",
                 LIST("\"P1W\"", "\"P1Y2M3DT4H5M6S\"", "\"PT0.5S\"", "\"P1D\""),
                 LIST("\"P\"", "\"PT\"", "\"P1DT\"", "\"P1S\"", "\"P1M1Y\"", "\"P1W1D\"", "\"1D\""));
    check_schema("{\"type\": \"string\", \"format\": \"uuid4\"}", LIST("\"123e4567-e89b-42d3-a456-426614174000\""),
                 LIST("\"123e4567-e89b-12d3-a456-426614174000\""));
    check_schema("{\"type\": \"string\", \"format\": \"nanoid\", \"pattern\": \"^x\"}", LIST("\"x1\""), LIST("\"1\""));
    check_schema("{\"type\": \"string\", \"format\": \"binary\"}", LIST("\"\"", "\"\xc3\xa9\""), LIST("1"));
    check_schema("{\"type\": \"integer\", \"format\": \"int8\", \"minimum\": -5}", LIST("127", "-5"),
                 LIST("128", "-6", "1000"));
}

static void test_objects(void) {
    check_schema(
        "{\"type\": \"object\", \"properties\": {\"a\": {\"type\": \"integer\"}, \"b\": {\"type\": \"string\"}, "
        "\"c\": true}, \"required\": [\"a\", \"c\"], \"additionalProperties\": false}",
        LIST("{\"a\":1,\"c\":null}", "{\"a\": 1, \"b\": \"\", \"c\": []}",
             "{\n  \"a\": 1,\n  \"c\": {\"x\": [1, 2]}\n}"),
        LIST("{}", "{\"a\":1}", "{\"c\":1,\"a\":1}", "{\"a\":\"\",\"c\":1}", "{\"a\":1,\"c\":1,\"d\":1}",
             "{\"a\":1 ,\"c\":1}", "{\"a\":1,\"c\":1,}", "[]"));
    check_schema(
        "{\"type\": \"object\", \"properties\": {\"ab\": {\"type\": \"integer\"}}}",
        LIST("{}", "{\"ab\": 1}", "{\"a\": 1}", "{\"abc\": \"x\"}", "{\"ab\": 1, \"z\": null, \"\xc3\xa9\": 1}"),
        LIST("{\"ab\": \"x\"}", "{\"z\": 1, \"ab\": 1}"));
    check_schema("{\"type\": \"object\", \"additionalProperties\": {\"type\": \"integer\"}, \"propertyNames\": "
                 "{\"pattern\": \"^[a-z]+$\"}}",
                 LIST("{}", "{\"a\": 1, \"bc\": 2}"), LIST("{\"A\": 1}", "{\"a\": \"x\"}"));
    check_schema("{\"type\": \"object\", \"propertyNames\": {\"enum\": [\"x\", \"y\"]}, \"additionalProperties\": "
                 "{\"type\": \"null\"}}",
                 LIST("{}", "{\"x\": null}", "{\"x\":null,\"y\":null}"), LIST("{\"z\": null}", "{\"x\": 1}"));
    check_schema(
        "{\"allOf\": [{\"type\": \"object\", \"properties\": {\"a\": {\"minimum\": 3}}, \"required\": [\"a\"]}, "
        "{\"properties\": {\"a\": {\"type\": \"integer\", \"maximum\": 5}}, \"additionalProperties\": false}]}",
        LIST("{\"a\": 3}", "{\"a\":5}"), LIST("{\"a\": 2}", "{\"a\": 6}", "{}", "{\"a\":4,\"b\":1}"));
    check_schema(
        "{\"type\": \"object\", \"required\": [\"k\"], \"properties\": {\"never\": false}, \"minProperties\": 1}",
        LIST("{\"k\": 1}", "{\"k\": 1, \"l\": 2}"), LIST("{}", "{\"never\": 1, \"k\": 1}", "{\"l\": 2}"));
}

static void test_pattern_properties(void) {
    check_schema("{\"type\": \"object\", \"patternProperties\": {\"^x\": {\"type\": \"integer\"}}}",
                 LIST("{}", "{\"x\": 1}", "{\"a\": null, \"xy\": 2, \"b\": []}"),
                 LIST("{\"x\": \"1\"}", "{\"xa\": null}"));
    check_schema(
        "{\"type\": \"object\", \"properties\": {\"xa\": {\"minimum\": 5}, \"b\": {\"type\": \"null\"}}, "
        "\"patternProperties\": {\"^x\": {\"type\": \"integer\"}, \"z$\": {\"maximum\": 3}}, "
        "\"additionalProperties\": {\"type\": \"string\"}}",
        LIST("{\"xa\": 5, \"b\": null, \"xz\": 3, \"x\": 9, \"c\": \"\"}", "{\"z\": \"not a number\"}", "{\"z\": 1}"),
        LIST("{\"xa\": 4}", "{\"xa\": \"\"}", "{\"xz\": 4}", "{\"xz\": \"\"}", "{\"z\": 4}", "{\"c\": 1}"));
    check_schema("{\"type\": \"object\", \"patternProperties\": {\"^[a-z]+$\": {\"type\": \"integer\"}}, "
                 "\"propertyNames\": {\"maxLength\": 3}, \"additionalProperties\": false}",
                 LIST("{}", "{\"abc\": 1}"), LIST("{\"abcd\": 1}", "{\"A\": 1}", "{\"a\": \"\"}"));
    check_schema(
        "{\"allOf\": [{\"type\": \"object\", \"patternProperties\": {\"a\": {\"type\": \"integer\"}}}, "
        "{\"patternProperties\": {\"b\": {\"minimum\": 2}}, \"additionalProperties\": {\"type\": \"integer\"}}]}",
        LIST("{\"ab\": 2, \"a\": 1, \"c\": 0}", "{\"b\": \"\"}"),
        LIST("{\"ab\": 1}", "{\"b\": 1}", "{\"c\": \"\"}", "{\"a\": \"\"}"));
}

static void test_property_counts(void) {
    check_schema("{\"type\": \"object\", \"additionalProperties\": {\"type\": \"integer\"}, \"minProperties\": 1, "
                 "\"maxProperties\": 3}",
                 LIST("{\"a\": 1}", "{\"a\": 1, \"b\": 2, \"c\": 3}"), LIST("{}", "{\"a\":1,\"b\":2,\"c\":3,\"d\":4}"));
    static const char two[] = "{\"type\": \"object\", \"properties\": {\"a\": {}, \"b\": {}, \"c\": {}}, "
                              "\"additionalProperties\": false, \"minProperties\": 2, \"maxProperties\": 2}";
    check_schema(two, LIST("{\"a\": 1, \"b\": 2}", "{\"a\":1,\"c\":2}", "{\"b\":1,\"c\":2}"),
                 LIST("{}", "{\"a\": 1}", "{\"c\": 1}", "{\"a\":1,\"b\":2,\"c\":3}"));
    check_schema("{\"type\": \"object\", \"properties\": {\"a\": {}}, \"required\": [\"a\"], \"maxProperties\": 2}",
                 LIST("{\"a\": 1}", "{\"a\":1,\"z\":2}"), LIST("{}", "{\"z\": 1}", "{\"a\":1,\"y\":2,\"z\":3}"));
    check_schema("{\"type\": \"object\", \"maxProperties\": 0}", LIST("{}"), LIST("{\"a\": 1}"));
}

static void test_unique_items(void) {
    static const char letters[] = "{\"type\": \"array\", \"items\": {\"enum\": [\"a\", \"b\", \"c\", \"a\"]}, "
                                  "\"uniqueItems\": true, \"minItems\": 1}";
    check_schema(letters, LIST("[\"a\"]", "[\"c\", \"a\", \"b\"]", "[\"b\",\"a\"]"),
                 LIST("[]", "[\"a\", \"a\"]", "[\"a\", \"b\", \"a\"]", "[\"d\"]", "[\"a\",\"b\",\"c\",\"a\"]"));
    check_schema("{\"type\": \"array\", \"items\": {\"anyOf\": [{\"$ref\": \"#/$defs/n\"}, {\"type\": [\"null\", "
                 "\"boolean\"]}]}, "
                 "\"uniqueItems\": true, \"maxItems\": 2, \"$defs\": {\"n\": {\"enum\": [1, 2, 30], \"maximum\": 9}}}",
                 LIST("[]", "[1, null]", "[true,false]", "[2,1]"),
                 LIST("[1, 1]", "[30]", "[null,null]", "[1,2,true]", "[true, true]"));
    check_schema("{\"type\": \"array\", \"uniqueItems\": false}", LIST("[1, 1]"), LIST("{}"));
}

static void test_arrays(void) {
    check_schema("{\"type\": \"array\", \"items\": {\"type\": \"integer\"}, \"minItems\": 1, \"maxItems\": 3}",
                 LIST("[1]", "[1, 2]", "[1,2,3]", "[\n 1,\n 2\n]"), LIST("[]", "[1,2,3,4]", "[\"a\"]", "[1,]", "[,1]"));
    check_schema("{\"type\": \"array\", \"prefixItems\": [{\"type\": \"integer\"}, {\"type\": \"string\"}], \"items\": "
                 "false, \"minItems\": 2}",
                 LIST("[1,\"a\"]"), LIST("[1]", "[1,\"a\",2]", "[\"a\",1]"));
    check_schema(
        "{\"type\": \"array\", \"items\": [{\"type\": \"integer\"}], \"additionalItems\": {\"type\": \"null\"}}",
        LIST("[]", "[1]", "[1,null,null]"), LIST("[null]", "[1,1]"));
    check_schema("{\"type\": \"array\", \"minItems\": 2}", LIST("[1,\"a\"]", "[[],{},null]"), LIST("[]", "[1]"));
    check_schema("{\"type\": \"array\", \"items\": false}", LIST("[]"), LIST("[1]"));
}

static void test_combinations(void) {
    check_schema("{\"anyOf\": [{\"type\": \"string\"}, {\"type\": \"null\"}], \"default\": null, \"title\": \"T\"}",
                 LIST("\"a\"", "null"), LIST("1"));
    check_schema("{\"oneOf\": [{\"$ref\": \"#/$defs/cat\"}, {\"$ref\": \"#/$defs/dog\"}], \"discriminator\": "
                 "{\"propertyName\": \"kind\"},"
                 "\"$defs\": {\"cat\": {\"type\": \"object\", \"properties\": {\"kind\": {\"const\": \"cat\"}, "
                 "\"lives\": {\"type\": \"integer\"}},"
                 "\"required\": [\"kind\"], \"additionalProperties\": false}, \"dog\": {\"type\": \"object\", "
                 "\"properties\": {\"kind\": {\"enum\": "
                 "[\"dog\", \"wolf\"]}}, \"required\": [\"kind\"], \"additionalProperties\": false}}}",
                 LIST("{\"kind\": \"cat\", \"lives\": 9}", "{\"kind\": \"wolf\"}"),
                 LIST("{\"kind\": \"dog\", \"lives\": 9}", "{}"));
    check_schema("{\"$ref\": \"#/definitions/node\", \"definitions\": {\"node\": {\"type\": \"object\", "
                 "\"properties\": {\"next\": "
                 "{\"anyOf\": [{\"$ref\": \"#/definitions/node\"}, {\"type\": \"null\"}]}}, \"required\": [\"next\"], "
                 "\"additionalProperties\": false}}}",
                 LIST("{\"next\": null}", "{\"next\": {\"next\": {\"next\": null}}}"),
                 LIST("{}", "{\"next\": 1}", "{\"next\": {}}"));
    check_schema("true", LIST("1", "{\"a\": [true, \"x\"]}", "\"\""), LIST("", "{", "tru"));
    check_schema("{\"properties\": {\"a/b~c\": {\"type\": \"integer\"}}, \"additionalProperties\": {\"$ref\": "
                 "\"#/properties/a~1b~0c\"}, \"type\": \"object\"}",
                 LIST("{\"a/b~c\": 1}", "{\"x\": 2}"), LIST("{\"x\": \"\"}"));
    check_schema("{\"type\": \"object\", \"anyOf\": [{\"required\": [\"a\"]}, {\"required\": [\"b\"]}], "
                 "\"properties\": {\"a\": {}, \"b\": {}}}",
                 LIST("{\"a\":1}", "{\"b\":1}", "{\"a\":1,\"b\":2}"), LIST("{}", "{\"c\":1}"));
}

static void test_other_standards(void) {
    check_schema("{\"type\": \"string\", \"nullable\": true, \"minLength\": 2}", LIST("\"ab\"", "null"),
                 LIST("\"a\"", "1"));
    check_schema("{\"type\": \"object\", \"properties\": {\"nullable\": true, \"a\": {\"nullable\": true, \"allOf\": "
                 "[{\"$ref\": \"#/definitions/b\"}]}}, \"definitions\": {\"b\": {\"type\": \"integer\"}}, "
                 "\"required\": [\"a\"], \"additionalProperties\": false}",
                 LIST("{\"a\": 1}", "{\"nullable\": [], \"a\": null}"), LIST("{\"a\": \"\"}", "{}"));
    check_schema("{\"type\": \"integer\", \"minimum\": 3, \"exclusiveMinimum\": true, \"maximum\": 5, "
                 "\"exclusiveMaximum\": false}",
                 LIST("4", "5"), LIST("3", "6"));
    check_schema(
        "{\"not\": {\"type\": [\"object\", \"array\", \"string\"]}, \"type\": [\"object\", \"null\", \"string\"]}",
        LIST("null"), LIST("{}", "\"\"", "1"));
    check_schema("{\"type\": \"object\", \"properties\": {\"a\": {\"not\": {}}, \"b\": {\"not\": false}}}",
                 LIST("{}", "{\"b\": 1}"), LIST("{\"a\": 1}"));
}

static void check_refused(const char *schema, const char *expected) {
    trol_error error = {0};
    grammar *g = NULL;
    CHECK(json_schema_compile(schema, strlen(schema), &g, &error) != TROL_OK && !g, "%s", schema);
    CHECK(strstr(error.message, expected), "%s\n  gives %s\n  expected %s", schema, error.message, expected);
    grammar_free(g);
}

static void test_refused(void) {
    static const char *const cases[][2] = {
        {"{\"type\": \"string\"", "the schema"},
        {"[]", "#: a schema is expected"},
        {"{\"not\": {}}", "nothing satisfies"},
        {"{\"not\": {\"minimum\": 3}}", "#/not: only {} and a type are supported"},
        {"{\"not\": {\"type\": \"integer\"}}", "#/not/type: numbers but whole ones"},
        {"{\"unevaluatedItems\": false}", "#/unevaluatedItems: this keyword is not supported"},
        {"{\"type\": \"object\", \"properties\": {\"a/b\": {\"if\": {}}}}", "#/properties/a~1b/if"},
        {"{\"type\": \"object\", \"patternProperties\": []}", "#/patternProperties"},
        {"{\"type\": \"object\", \"patternProperties\": {\"(\": {}}}", "#/patternProperties/(: the pattern"},
        {"{\"type\": \"object\", \"minProperties\": 2}", "#/minProperties"},
        {"{\"type\": \"object\", \"required\": [\"a\", \"b\"], \"maxProperties\": 1}", "nothing satisfies"},
        {"{\"type\": \"strin\"}", "#/type: this is not a type"},
        {"{\"type\": \"string\", \"format\": \"regex\"}", "#/format: this format is not supported"},
        {"{\"type\": \"string\", \"pattern\": \"(?<=a)\"}", "#/pattern"},
        {"{\"type\": \"string\", \"pattern\": \"(?!a(?=b))\"}", "inside of (?!...)"},
        {"{\"type\": \"string\", \"pattern\": \"(?=a)+\"}", "cannot be repeated"},
        {"{\"type\": \"string\", \"pattern\": \"(?!)\"}", "nothing satisfies"},
        {"{\"type\": \"string\", \"format\": \"nanoid\"}", "#/format: this format is not supported"},
        {"{\"type\": \"string\", \"format\": \"regex\", \"pattern\": \"a\"}", "#/format"},
        {"{\"type\": \"integer\", \"format\": \"int31\"}", "#/format: this format of numbers"},
        {"{\"type\": \"string\", \"pattern\": \"(a\"}", "a group is not closed"},
        {"{\"type\": \"string\", \"pattern\": \"\\\\1\"}", "escape is not supported"},
        {"{\"type\": \"string\", \"pattern\": \"(((a{1000}){1000}){1000})\"}", "too large"},
        {"{\"type\": \"string\", \"minLength\": -1}", "#/minLength"},
        {"{\"type\": \"string\", \"minLength\": 3, \"maxLength\": 2}", "nothing satisfies"},
        {"{\"type\": \"integer\", \"minimum\": 3, \"maximum\": 2}", "nothing satisfies"},
        {"{\"type\": \"integer\", \"minimum\": 1, \"maximum\": 5, \"multipleOf\": 7}", "nothing satisfies"},
        {"{\"type\": \"number\", \"multipleOf\": 0.00000000000000000001}", "#/multipleOf"},
        {"{\"type\": \"number\", \"multipleOf\": 50.01}", "#/multipleOf: a multiple of more than"},
        {"{\"type\": \"number\", \"multipleOf\": 0.25, \"minimum\": 0.3, \"maximum\": 0.45}", "nothing satisfies"},
        {"{\"allOf\": [{\"type\": \"string\"}, {\"type\": \"null\"}]}", "nothing satisfies"},
        {"false", "nothing satisfies"},
        {"{\"enum\": []}", "nothing satisfies"},
        {"{\"$ref\": \"#/$defs/none\"}", "#/$ref: there is no such place"},
        {"{\"$ref\": \"http://example.com/schema\"}", "only references into this schema"},
        {"{\"$ref\": \"#/$defs/a\", \"$defs\": {\"a\": {\"anyOf\": [{\"$ref\": \"#/$defs/a\"}, {\"type\": "
         "\"null\"}]}}}",
         "itself without end"},
        {"{\"type\": \"object\", \"properties\": {\"a\": {\"$ref\": \"#\"}}, \"required\": [\"a\"]}",
         "nothing satisfies"},
        {"{\"oneOf\": [{\"type\": \"integer\"}, {\"type\": \"number\"}]}", "#/oneOf/1: this branch"},
        {"{\"oneOf\": [{\"type\": \"object\", \"properties\": {\"k\": {\"const\": 1}}}, {\"type\": \"object\", "
         "\"properties\": {\"k\": {\"const\": 2}}}]}",
         "#/oneOf/1"},
        {"{\"type\": \"array\", \"uniqueItems\": true}", "#/uniqueItems"},
        {"{\"uniqueItems\": true, \"items\": {\"type\": \"boolean\"}, \"type\": \"array\", \"minItems\": 3}",
         "nothing satisfies"},
        {"{\"type\": \"array\", \"minItems\": 2, \"items\": false}", "nothing satisfies"},
        {"{\"type\": \"object\", \"required\": [\"a\"], \"additionalProperties\": false}", "nothing satisfies"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check_refused(cases[i][0], cases[i][1]);
}

/* ---- masks ----------------------------------------------------------------------------------- */

static trol_model *open_bundled(const char *name) {
    char path[1024];
    snprintf(path, sizeof path, "%s/../../models/%s", TEST_REFERENCE, name);
    return load_model(path, 1);
}

static bool is_allowed(const uint64_t *allowed, int32_t token) { return allowed[token / 64] >> token % 64 & 1; }

/* A token's bit is set if its bytes can follow and enough tokens are left after it. */
static void check_mask(trol_model *model, trol_constraint *c, int64_t n_left, const uint64_t *allowed) {
    trol_error error = {0};
    const int32_t vocab = (int32_t)model->config.decoder.vocab_size;
    for (int32_t token = 0; token < vocab; token++) {
        trol_constraint *tried = NULL;
        int64_t needed = 0;
        CHECK_OK(trol_constraint_clone(c, &tried, &error), error);
        bool follows = trol_constraint_accept(tried, token, &error) == TROL_OK;
        if (follows)
            CHECK_OK(trol_constraint_min_tokens(tried, &needed, &error), error);
        bool end = false;
        for (size_t i = 0; i < model->n_end_tokens; i++)
            end = end || model->end_tokens[i] == token;
        follows = follows && (end || n_left < 0 || needed <= n_left - 1);
        CHECK(follows == is_allowed(allowed, token), "token %d (%s), %lld left", token,
              tokenizer_spelling(model->tokenizer, token), (long long)n_left);
        trol_constraint_free(tried);
    }
}

static const char person[] =
    "{\"type\": \"object\", \"properties\": {\"name\": {\"type\": \"string\", \"maxLength\": 12}, "
    "\"age\": {\"type\": \"integer\", \"minimum\": 0, \"maximum\": 150}, \"tags\": {\"type\": \"array\", "
    "\"items\": {\"type\": \"string\"}}}, \"required\": [\"name\", \"age\"], \"additionalProperties\": false}";

/* A random walk along the masks, with every sufficient limit: it always ends in time. */
static void check_walks(trol_model *model, trol_constraint *start, uint64_t seed, bool thorough) {
    const int32_t vocab = (int32_t)model->config.decoder.vocab_size;
    uint64_t *allowed = malloc(((size_t)vocab + 63) / 64 * sizeof *allowed);
    trol_error error = {0};
    int64_t needed;
    CHECK_OK(trol_constraint_min_tokens(start, &needed, &error), error);
    CHECK(trol_constraint_fill(start, needed - 1, allowed, &error) == TROL_ERROR_ARGUMENT, "a limit that is too low");
    for (int64_t limit = needed; limit < needed + 40; limit += 1 + limit / 8) {
        trol_constraint *c = NULL;
        CHECK_OK(trol_constraint_clone(start, &c, &error), error);
        int64_t left = limit;
        bool ended = false;
        for (; !ended && left >= 0; left--) {
            CHECK_OK(trol_constraint_fill(c, left, allowed, &error), error);
            if (thorough && left % 4 == 0)
                check_mask(model, c, left, allowed);
            int32_t n = 0, chosen = -1;
            for (int32_t t = 0; t < vocab; t++)
                if (is_allowed(allowed, t) && test_random(&seed) % (uint64_t)++n == 0)
                    chosen = t;
            CHECK(n > 0, "nothing is allowed with %lld of %lld left", (long long)left, (long long)limit);
            if (n == 0)
                break;
            CHECK_OK(trol_constraint_accept(c, chosen, &error), error);
            for (size_t i = 0; i < model->n_end_tokens; i++)
                ended = ended || model->end_tokens[i] == chosen;
        }
        CHECK(ended, "limit %lld", (long long)limit);
        CHECK(trol_constraint_complete(c), "an end token ends it");
        trol_constraint_free(c);
    }
    free(allowed);
}

static void test_masks(const char *name) {
    trol_model *model = open_bundled(name);
    trol_constraint *c = NULL;
    trol_error error = {0};
    int64_t n;
    CHECK_OK(trol_constraint_new_json_schema(model, person, sizeof person - 1, &c, &error), error);
    check_walks(model, c, 1, true);
    check_walks(model, c, 2, false);
    trol_constraint_free(c);
    CHECK_OK(trol_constraint_new_json(model, &c, &error), error);
    check_walks(model, c, 3, true);
    CHECK(trol_constraint_accept(c, model->end_tokens[0], &error) == TROL_ERROR_ARGUMENT, "no end before an answer");
    trol_constraint_free(c);
    static const char gbnf[] = "root ::= \" \"? [^\\x00-\\x1f]{2,5} \"\\n\"";
    CHECK_OK(trol_constraint_new_gbnf(model, gbnf, sizeof gbnf - 1, &c, &error), error);
    check_walks(model, c, 4, true);
    CHECK_OK(trol_constraint_reset(c, &error), error);
    CHECK_OK(trol_constraint_min_tokens(c, &n, &error), error);
    CHECK(n == 3, "%lld", (long long)n);
    trol_constraint_free(c);
    CHECK(trol_constraint_new_gbnf(model, "root", 4, &c, &error) == TROL_ERROR_FORMAT && !c, "a broken grammar");
    trol_model_free(model);
}

/* ---- answers --------------------------------------------------------------------------------- */

typedef struct answer_buffer {
    char text[4096];
} answer_buffer;

static int collect(void *user, const char *text) {
    answer_buffer *answer = user;
    strncat(answer->text, text, sizeof answer->text - strlen(answer->text) - 1);
    return 0;
}

static trol_status ask(trol_model *model, trol_constraint *constraint, int32_t max_tokens, int32_t lookup,
                       uint64_t seed, int ignore_eos, answer_buffer *answer, trol_stop *stop, trol_error *error) {
    trol_session *session = NULL;
    trol_sampler *sampler = NULL;
    trol_sampler_params sampling;
    trol_generate_params params;
    trol_sampler_params_init(&sampling);
    sampling.temperature = 1.5f;
    sampling.seed = seed;
    CHECK_OK(trol_session_new(model, NULL, &session, error), *error);
    CHECK_OK(trol_session_ask(session, "What is in the picture?", NULL, 0, error), *error);
    if (seed)
        CHECK_OK(trol_sampler_new(&sampling, &sampler, error), *error);
    trol_generate_params_init(&params);
    params.max_tokens = max_tokens;
    params.lookup = lookup;
    params.sampler = sampler;
    params.constraint = constraint;
    params.ignore_eos = ignore_eos;
    answer->text[0] = '\0';
    trol_status status = trol_generate(session, &params, collect, answer, stop, error);
    trol_sampler_free(sampler);
    trol_session_free(session);
    return status;
}

static void test_answers(const char *name) {
    trol_model *model = open_bundled(name);
    matcher *m = compile(person);
    trol_error error = {0};
    trol_stop stop;
    trol_constraint *c = NULL;
    answer_buffer answer, second;
    int64_t needed;
    CHECK_OK(trol_constraint_new_json_schema(model, person, sizeof person - 1, &c, &error), error);
    CHECK_OK(trol_constraint_min_tokens(c, &needed, &error), error);
    CHECK(ask(model, c, (int32_t)needed - 1, 0, 0, 0, &answer, &stop, &error) == TROL_ERROR_ARGUMENT, "too few tokens");
    CHECK(strstr(error.message, "the shortest one that the constraint allows takes"), "%s", error.message);
    for (int32_t n = (int32_t)needed; n < 80; n += 1 + n / 6)
        for (uint64_t seed = 0; seed < 3; seed++) {
            CHECK_OK(trol_constraint_reset(c, &error), error);
            CHECK_OK(ask(model, c, n, 0, seed, seed == 2, &answer, &stop, &error), error);
            CHECK(matches(m, answer.text), "%d tokens: %s", n, answer.text);
            CHECK_OK(trol_constraint_reset(c, &error), error);
            CHECK_OK(ask(model, c, n, 2, seed, seed == 2, &second, &stop, &error), error);
            CHECK(strcmp(answer.text, second.text) == 0, "prompt lookup: %s, %s", answer.text, second.text);
        }
    trol_constraint_free(c);
    matcher_free(m);
    trol_model_free(model);
}

/* ---- a program's own ------------------------------------------------------------------------- */

/* Allows the same token three times, then the end. */
typedef struct thrice {
    trol_model *model;
    int32_t token, count;
    int released;
} thrice;

static int thrice_fill(void *user, int64_t n_left, uint64_t *allowed, int32_t n_tokens) {
    const thrice *t = user;
    const int32_t token = t->count < 3 ? t->token : t->model->end_tokens[0];
    if (n_left == 0 || token >= n_tokens)
        return 1;
    allowed[token / 64] |= (uint64_t)1 << token % 64;
    return 0;
}

static int thrice_accept(void *user, int32_t token) {
    thrice *t = user;
    t->count++;
    return token != t->token && t->count <= 3;
}

static void thrice_release(void *user) { ((thrice *)user)->released++; }

static void test_custom(void) {
    trol_model *model = open_bundled("trol-tiny-internlm2");
    thrice rule = {.model = model, .token = tokenizer_id(model->tokenizer, "a")};
    const trol_constraint_hooks hooks = {sizeof hooks, thrice_fill, thrice_accept, NULL, NULL, thrice_release};
    trol_constraint *c = NULL, *clone = NULL;
    trol_error error = {0};
    trol_stop stop;
    answer_buffer answer;
    CHECK_OK(trol_constraint_new_custom(model, &hooks, &rule, &c, &error), error);
    CHECK_OK(ask(model, c, 10, 0, 0, 0, &answer, &stop, &error), error);
    CHECK(strcmp(answer.text, "aaa") == 0 && stop == TROL_STOP_END, "%s", answer.text);
    CHECK(trol_constraint_clone(c, &clone, &error) == TROL_ERROR_UNSUPPORTED && !clone, "no clone callback");
    CHECK(trol_constraint_reset(c, &error) == TROL_ERROR_UNSUPPORTED, "no reset callback");
    trol_constraint_free(c);
    CHECK(rule.released == 1, "released");
    trol_model_free(model);
}

typedef struct busy_clone {
    trol_constraint *constraint;
    uint64_t *allowed;
    atomic_int stop, rounds;
} busy_clone;

static void *fill_masks(void *context) {
    busy_clone *b = context;
    trol_error error = {0};
    while (!atomic_load(&b->stop)) {
        CHECK_OK(trol_constraint_fill(b->constraint, 100, b->allowed, &error), error);
        atomic_fetch_add(&b->rounds, 1);
    }
    return NULL;
}

/* A child can use the constraint or gets the error, and can always free it. */
static void in_child(trol_model *model, trol_constraint *c, uint64_t *allowed) {
    trol_error error = {0};
    trol_constraint *fresh = NULL;
    alarm(20);
    trol_status status = trol_constraint_fill(c, 100, allowed, &error);
    bool good = status == TROL_OK || (status == TROL_ERROR_STATE && strstr(error.message, "another thread"));
    good = good && trol_constraint_reset(c, &error) == status;
    trol_constraint_free(c);
    good = good && trol_constraint_new_json(model, &fresh, &error) == TROL_OK &&
           trol_constraint_fill(fresh, 100, allowed, &error) == TROL_OK;
    trol_constraint_free(fresh);
    _exit(good ? 0 : 1);
}

static void test_fork(void) {
    trol_model *model = open_bundled("trol-tiny-internlm2");
    const size_t n_words = ((size_t)model->config.decoder.vocab_size + 63) / 64;
    uint64_t *masks = calloc(2 * n_words, sizeof *masks);
    trol_constraint *c = NULL;
    busy_clone busy = {.allowed = masks};
    trol_error error = {0};
    pthread_t thread;
    CHECK_OK(trol_constraint_new_json(model, &c, &error), error);
    CHECK_OK(trol_constraint_clone(c, &busy.constraint, &error), error);
    CHECK(pthread_create(&thread, NULL, fill_masks, &busy) == 0, "a thread");
    while (atomic_load(&busy.rounds) == 0)
        sched_yield();
    for (int i = 0; i < 20; i++) {
        const pid_t child = fork();
        if (child == 0)
            in_child(model, c, masks + n_words);
        int status = -1;
        waitpid(child, &status, 0);
        CHECK(status == 0, "child %d of a process whose other thread uses a clone: status %d", i, status);
    }
    atomic_store(&busy.stop, 1);
    pthread_join(thread, NULL);
    trol_constraint_free(busy.constraint);
    trol_constraint_free(c);
    free(masks);
    trol_model_free(model);
}

int main(void) {
    test_scalars();
    test_strings();
    test_look_ahead();
    test_formats();
    test_objects();
    test_pattern_properties();
    test_property_counts();
    test_arrays();
    test_unique_items();
    test_other_standards();
    test_combinations();
    test_refused();
    test_masks("trol-tiny-internlm2");
    test_masks("trol-tiny-phi3");
    test_answers("trol-tiny-internlm2");
    test_answers("trol-tiny-phi3");
    test_custom();
    test_fork();
    return test_summary("test-constraint");
}
