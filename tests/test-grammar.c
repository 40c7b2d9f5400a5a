/* test-grammar.c - grammars in GBNF: what they match, what they refuse, what is refused of them; the distances on which
 * the reserve of tokens is based. */
#include "engine/gbnf.h"
#include "engine/matcher.h"
#include "test.h"

static matcher *compile(const char *text) {
    trol_error error = {0};
    grammar *g = NULL;
    matcher *m = NULL;
    CHECK_OK(gbnf_compile(text, strlen(text), &g, &error), error);
    if (g)
        CHECK_OK(matcher_new(g, &m, &error), error);
    return m;
}

/* The state after a text. */
static uint32_t run(matcher *m, const char *text, size_t n) {
    uint32_t state = MATCHER_START;
    trol_error error = {0};
    for (size_t i = 0; i < n && state; i++)
        CHECK_OK(matcher_step(m, state, (uint8_t)text[i], &state, &error), error);
    return state;
}

static bool matches(matcher *m, const char *text) {
    const uint32_t state = run(m, text, strlen(text));
    return state != MATCHER_DEAD && matcher_accepts(m, state);
}

/* The texts of yes[] match, those of no[] do not. The shortest way out of each place ends the text, in as many bytes as
 * the distance. */
static void check_grammar(const char *grammar_text, const char *const *yes, const char *const *no) {
    matcher *m = compile(grammar_text);
    trol_error error = {0};
    for (; m && *yes; yes++) {
        CHECK(matches(m, *yes), "%s\n  %s", grammar_text, *yes);
        for (size_t n = 0; n <= strlen(*yes); n++) {
            uint32_t state = run(m, *yes, n);
            const uint32_t distance = matcher_distance(m, state);
            CHECK(distance <= strlen(*yes) - n, "%s: %zu: %u", *yes, n, distance);
            for (uint32_t left = distance; left > 0 && state; left--) {
                uint8_t byte;
                CHECK(matcher_distance(m, state) == left, "%s: %zu: %u of %u", *yes, n, left, distance);
                CHECK_OK(matcher_next_byte(m, state, &byte, &state, &error), error);
            }
            CHECK(state && matcher_accepts(m, state), "%s: %zu", *yes, n);
        }
    }
    for (; m && *no; no++)
        CHECK(!matches(m, *no), "%s\n  %s", grammar_text, *no);
    matcher_free(m);
}

#define LIST(...)                                                                                                      \
    (const char *const[]) { __VA_ARGS__, NULL }

static void test_lists(void) {
    check_grammar("root ::= item+\nitem ::= \"- \" [^\\r\\n\\x0b\\x0c\\x85\\u2028\\u2029]+ \"\\n\"\n",
                  LIST("- a\n", "- a\n- bc d\n", "- \xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\n"),
                  LIST("", "- \n", "-a\n", "- a", "- a\n\n", "- \xc2\x85\n", "- \xe2\x80\xa8\n", "- \xc3\n",
                       "- \xed\xa0\x80\n", "- \xc1\x81\n", "- \xf4\x90\x80\x80\n", "- a\x0b\n"));
    check_grammar(
        "# a comment\nroot ::= \"1. \" paragraph \"\\n\" # another\n  | \"none\"\nparagraph ::= [a-zA-Z'.,; ]+",
        LIST("1. It's so.\n", "none"), LIST("2. a\n", "1. \n", "non", "nonee"));
    check_grammar("root ::= \"a\"{2} \"b\"{1,3} \"c\"{2,} (\"d\" | \"e\" |\n \"\")? \"\"",
                  LIST("aabcc", "aabbbccccd", "aabcce"), LIST("abcc", "aabbbbcc", "aabc", "aabccde"));
    check_grammar("root ::= ( \"ab\" | \"a\" )* \"\\\"\\\\\" .", LIST("\"\\x", "abaab\"\\\xe2\x82\xac", "\"\\\n"),
                  LIST("abb\"\\x", "\"\\", "\"\\\xe2\x82", "\"\\xy"));
    check_grammar("root ::= [\\]\\-\\\\a-c^\\U0001F600-\\U0001F64F-]+", LIST("]", "-", "\\", "b^", "\xf0\x9f\x98\x80"),
                  LIST("d", "[", "\xf0\x9f\x99\x90", "\xf0\x9f\x97\xbf"));
}

static void test_arithmetic(void) {
    check_grammar("root  ::= (expr \"=\" ws term \"\\n\")+\n"
                  "expr  ::= term ([-+*/] term)*\n"
                  "term  ::= ident | num | \"(\" ws expr \")\" ws\n"
                  "ident ::= [a-z] [a-z0-9_]* ws\n"
                  "num   ::= [0-9]+ ws\n"
                  "ws    ::= [ \\t\\n]*\n",
                  LIST("1=2\n", "(a +b1_) *3 = c\n", "((((x))))=1\n2-2=0\n"),
                  LIST("1=2", "1+=2\n", "(1=2\n", "1=2+3\n", "B=1\n", ")=1\n"));
}

static const char json_grammar[] =
    "root   ::= object\n"
    "value  ::= object | array | string | number | (\"true\" | \"false\" | \"null\") ws\n"
    "\n"
    "object ::=\n"
    "  \"{\" ws (\n"
    "            string \":\" ws value\n"
    "    (\",\" ws string \":\" ws value)*\n"
    "  )? \"}\" ws\n"
    "\n"
    "array  ::=\n"
    "  \"[\" ws (\n"
    "            value\n"
    "    (\",\" ws value)*\n"
    "  )? \"]\" ws\n"
    "\n"
    "string ::=\n"
    "  \"\\\"\" (\n"
    "    [^\"\\\\\\x7F\\x00-\\x1F] |\n"
    "    \"\\\\\" ([\"\\\\bfnrt] | \"u\" [0-9a-fA-F]{4}) # escapes\n"
    "  )* \"\\\"\" ws\n"
    "\n"
    "number ::= (\"-\"? ([0-9] | [1-9] [0-9]{0,15})) (\".\" [0-9]+)? "
    "([eE] [-+]? [0-9] [1-9]{0,15})? ws\n"
    "# white space\n"
    "ws ::= | \" \" | \"\\n\" [ \\t]{0,20}\n";

static void test_json(void) {
    check_grammar(json_grammar,
                  LIST("{}", "{\"a\": [1, -2.5e3, \"\xc3\xa9\\n\\u00e9\"], \"b\": {\"c\": null}}\n  ", "{\"\":[[[]]]}"),
                  LIST("", "[]", "{\"a\":01}", "{\"a\":1,}", "{\"a\":\"\x01\"}", "{a:1}", "{\"a\":tru}", "{\"a\":[1}"));
}

static void test_chess(void) {
    check_grammar("root ::= \"1. \" move \" \" move \"\\n\" ([1-9] [0-9]? \". \" move \" \" move \"\\n\")+\n"
                  "move ::= (pawn | nonpawn | castle) [+#]?\n"
                  "# piece type, optional file/rank, optional capture, dest file & rank\n"
                  "nonpawn ::= [NBKQR] [a-h]? [1-8]? \"x\"? [a-h] [1-8]\n"
                  "# optional file & capture, dest file & rank, optional promotion\n"
                  "pawn ::= ([a-h] \"x\")? [a-h] [1-8] (\"=\" [NBKQR])?\n"
                  "castle ::= \"O-O\" \"-O\"?\n",
                  LIST("1. e4 e5\n2. Nf3 Nc6\n", "1. e4 d5\n2. exd5 Qxd5\n3. O-O-O g8=Q+\n"),
                  LIST("1. e4 e5\n", "1. e4 e9\n2. e4 e5\n", "1. Pe4 e5\n2. a1 a2\n", "1. e4 e5\n2. O-O-O-O a1\n"));
}

/* Ambiguity, nullable rules and right recursion stay small; depth and long repetitions work. */
static void test_hard_ones(void) {
    trol_error error = {0};
    check_grammar("root ::= s\ns ::= \"a\" s | \"a\" s \"b\" | \"\"\n", LIST("", "aaab", "aabb", "aaaaaaaa"),
                  LIST("b", "abb", "aba"));
    check_grammar("root ::= a b a \"x\"\na ::= b? (b b)*\nb ::= \"y\"? (c)*\nc ::= \"z\" c | \"z\"\n",
                  LIST("x", "yzyzzyx", "zzzzyyyx"), LIST("", "xx", "yz"));
    matcher *m = compile("root ::= s\ns ::= \"a\" s s | \"a\" s | \"a\" \"b\"? \n");
    char text[3001];
    memset(text, 'a', sizeof text);
    uint32_t state = run(m, text, 60);
    CHECK(state != MATCHER_DEAD && matcher_accepts(m, state), "60 a");
    CHECK(matcher_bytes(m) < 1 << 20, "%zu bytes", matcher_bytes(m));
    matcher_free(m);
    m = compile("root ::= \"[\" (root (\",\" root)*)? \"]\"\n");
    memset(text, '[', sizeof text);
    state = run(m, text, 3000);
    CHECK(state != MATCHER_DEAD && matcher_distance(m, state) == 3000, "3000 [");
    uint32_t kept[2] = {state, MATCHER_START};
    CHECK_OK(matcher_compact(m, kept, 2, &error), error);
    CHECK(matcher_distance(m, kept[0]) == 3000 && kept[1] == MATCHER_START, "compact");
    for (int i = 0; i < 3000 && kept[0]; i++)
        CHECK_OK(matcher_step(m, kept[0], ']', &kept[0], &error), error);
    CHECK(kept[0] && matcher_accepts(m, kept[0]) && matcher_must_end(m, kept[0]), "closed after compact");
    CHECK_OK(matcher_compact(m, kept, 2, &error), error);
    CHECK(matches(m, "[[],[]]") && !matches(m, "[[]"), "after compact");
    matcher_free(m);
    m = compile("root ::= [a-z ]* \"\\n\"\nunused ::= \"x\"\n");
    CHECK(run(m, "abc", 3) == run(m, "hello world", 11), "one state however long the text");
    matcher_free(m);
    m = compile("root ::= w\nw ::= [ ] w | \"x\"\n");
    CHECK(run(m, "  ", 2) == run(m, "      ", 6), "right recursion grows no stack");
    matcher_free(m);
    m = compile("root ::= \"a\"{0,50000} \"b\"{20000}");
    state = run(m, "aaab", 4);
    CHECK(matcher_distance(m, state) == 19999, "%u", matcher_distance(m, state));
    matcher_free(m);
}

static void check_refused(const char *text, size_t n_bytes, const char *expected) {
    trol_error error = {0};
    grammar *g = NULL;
    CHECK(gbnf_compile(text, n_bytes, &g, &error) != TROL_OK && !g, "%.200s", text);
    CHECK(strstr(error.message, expected), "%s, expected: %s", error.message, expected);
    grammar_free(g);
}

static void test_refused(void) {
    static const char *const cases[][2] = {
        {"", "no rule named root"},
        {"rot ::= \"a\"", "no rule named root"},
        {"root ::= a", "line 1: rule a is not defined"},
        {"root ::= \"a\"\nroot ::= \"b\"", "line 2: rule root is defined a second time"},
        {"root ::= root \"a\" | \"a\"", "line 1: rule root is left-recursive"},
        {"root ::= a\na ::= b? a \"x\" | \"y\"\nb ::= \"z\"", "rule a is left-recursive"},
        {"root ::= a\na ::= b* c\nb ::= \"z\"\nc ::= b? root \"q\" | \"q\"", "left-recursive"},
        {"root ::= \"a\" root", "matches no text"},
        {"root ::= \"a", "line 1: a literal is not closed"},
        {"root ::= [a", "a class is not closed"},
        {"root ::= [b-a]", "down to"},
        {"root ::= (\"a\"", "a group is not closed"},
        {"root ::= \"\\q\"", "\\q is not known"},
        {"root ::= \"\\x4\"", "2 hexadecimal digits"},
        {"root ::= \"\\uD800\"", "is not a character"},
        {"root ::= \"\\U00110000\"", "is not a character"},
        {"root ::= \"a\"{3,2}", "maximum below its minimum"},
        {"root ::= \"a\"{x}", "a number is expected"},
        {"root ::= \"a\"{99999999999}", "repeated more than"},
        {"root ::= (((\"a\"{1000}){1000}){1000}){1000}", "too large"},
        {"root := \"a\"", "::= is expected after root"},
        {"root ::= \"a\" ) \"b\"", "is expected"},
        {"root ::= *", "is expected"},
        {"root ::= <tok>", "is expected"},
        {"::= \"a\"", "a rule's name is expected"},
        {"root ::= \"\xff\"", "not valid UTF-8"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check_refused(cases[i][0], strlen(cases[i][0]), cases[i][1]);
    char deep[3000] = "root ::= ";
    memset(deep + 9, '(', 2000);
    check_refused(deep, strlen(deep), "nested more than");
    memset(deep + 9, '*', 2000);
    deep[9] = '.';
    check_refused(deep, strlen(deep), "repetitions of repetitions");
    check_refused("root ::= \"a\0b\" \"", 17, "not closed");
    char doubling[2000] = "root ::= r40\nr0 ::= \"aa\"\n";
    for (int i = 1; i <= 40; i++)
        sprintf(doubling + strlen(doubling), "r%d ::= r%d r%d\n", i, i - 1, i - 1);
    check_refused(doubling, strlen(doubling), "longer than a million bytes");
}

int main(void) {
    test_lists();
    test_arithmetic();
    test_json();
    test_chess();
    test_hard_ones();
    test_refused();
    return test_summary("test-grammar");
}
