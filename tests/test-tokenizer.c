/* test-tokenizer.c - texts to tokens and back against the original libraries' vectors (the published tokenizers where
 * TROL_TOKENIZERS names the folder that holds internlm2/ and phi3/), the rules on a small model made here, and broken
 * files. */
#include "format/tokenizer.h"

#include <stdbool.h>
#include <time.h>

#include "base/memory.h"
#include "base/utf8.h"
#include "files.h"
#include "format/json.h"
#include "format/sentencepiece_model.h"
#include "test.h"

static trol_error error;

/* ---- vectors --------------------------------------------------------------------------------- */

typedef struct id_list {
    int32_t *ids;
    size_t n, capacity;
} id_list;

static void encode(const tokenizer *t, const char *text, size_t n_bytes, bool special, id_list *list) {
    list->n = 0;
    text_piece piece = {text, n_bytes, special};
    CHECK_OK(tokenizer_encode(t, &piece, 1, &list->ids, &list->n, &list->capacity, &error), error);
}

static void check_ids(const id_list *list, const cJSON *expected, const char *what, int line) {
    size_t n = (size_t)cJSON_GetArraySize(expected), i = 0;
    bool equal = list->n == n;
    const cJSON *id;
    cJSON_ArrayForEach(id, expected) {
        equal = equal && list->ids[i] == id->valueint;
        i += equal;
    }
    CHECK(equal, "%s line %d: %zu tokens, expected %zu; first difference at %zu (%d)", what, line, list->n, n, i,
          i < list->n ? list->ids[i] : -1);
}

/* The text put together from single tokens, as a stream is. */
static char *stream(const tokenizer *t, const id_list *list) {
    char *bytes = NULL, *text = malloc(1);
    size_t n_bytes = 0, capacity = 0, n_text = 0, n_used;
    bool first = true;
    for (size_t i = 0; i < list->n; i++) {
        CHECK_OK(tokenizer_append_bytes(t, list->ids[i], first, &bytes, &n_bytes, &capacity, &error), error);
        first = first && tokenizer_is_special(t, list->ids[i]);
        text = realloc(text, n_text + UTF8_REPAIRED_BYTES(n_bytes) + 1);
        n_text += utf8_repair(bytes, n_bytes, i + 1 == list->n, text + n_text, &n_used);
        n_bytes -= n_used;
        if (n_bytes)
            memmove(bytes, bytes + n_used, n_bytes);
    }
    memory_free(bytes);
    text = realloc(text, n_text + 1);
    text[n_text] = '\0';
    return text;
}

static void check_decode(const tokenizer *t, const id_list *list, const char *expected, const char *what, int line) {
    char *text, *streamed = stream(t, list);
    CHECK_OK(tokenizer_decode(t, list->ids, list->n, false, &text, &error), error);
    CHECK(text && strcmp(text, expected) == 0, "%s line %d: decoded \"%s\", expected \"%s\"", what, line,
          text ? text : "", expected);
    CHECK(text && strcmp(text, streamed) == 0, "%s line %d: streamed \"%s\", decoded \"%s\"", what, line, streamed,
          text ? text : "");
    memory_free(text);
    free(streamed);
}

/* The text as tokens spell it: U+2581 has become a space. */
static char *spelled_by_tokens(const char *text) {
    char *copy = malloc(strlen(text) + 1), *out = copy;
    while (*text) {
        bool symbol = strncmp(text, "\xe2\x96\x81", 3) == 0;
        *out++ = symbol ? ' ' : *text;
        text += symbol ? 3 : 1;
    }
    *out = '\0';
    return copy;
}

/* The "text" of a line. The JSON reader refuses NUL, and one line has it: check_file has put U+E000 in its place. */
static const char *text_of(const cJSON *line, size_t *n_bytes) {
    char *text = cJSON_GetObjectItem(line, "text")->valuestring, *at = text;
    *n_bytes = strlen(text);
    while ((at = strstr(at, "\xee\x80\x80"))) {
        *at = '\0';
        memmove(at + 1, at + 3, *n_bytes - (size_t)(at + 3 - text) + 1);
        *n_bytes -= 2;
        at++;
    }
    return text;
}

/* Calls check for each line of folder/name. */
typedef void (*line_check)(const tokenizer *t, const cJSON *line, const char *what, int number);

static void check_file(const tokenizer *t, const char *folder, const char *name, line_check check) {
    char *path, *bytes;
    size_t n_bytes;
    int number = 0;
    CHECK_OK(path_join(folder, name, &path, &error), error);
    CHECK_OK(file_read(path, (size_t)64 << 20, &bytes, &n_bytes, &error), error);
    for (char *line = bytes, *end; line && line < bytes + n_bytes; line = end + 1) {
        cJSON *json;
        end = memchr(line, '\n', (size_t)(bytes + n_bytes - line));
        if (!end)
            end = bytes + n_bytes;
        *end = '\0';
        for (char *nul = line; (nul = strstr(nul, "\\u0000"));)
            memcpy(nul, "\\ue000", 6);
        if (json_parse(line, (size_t)(end - line), path, &json, &error) != TROL_OK) {
            CHECK(false, "%s", error.message);
            break;
        }
        check(t, json, path, ++number);
        cJSON_Delete(json);
    }
    CHECK(number > 0, "%s has no lines", path);
    memory_free(bytes);
    memory_free(path);
}

static void check_vector(const tokenizer *t, const cJSON *line, const char *what, int number) {
    size_t n_bytes;
    const char *text = text_of(line, &n_bytes);
    const cJSON *decoded = cJSON_GetObjectItem(line, "decoded");
    id_list list = {0};
    bool any_special = false;
    encode(t, text, n_bytes, true, &list);
    check_ids(&list, cJSON_GetObjectItem(line, "ids"), what, number);
    for (size_t i = 0; i < list.n; i++)
        any_special |= tokenizer_is_special(t, list.ids[i]);
    char *spelled = decoded ? NULL : spelled_by_tokens(text);
    if (decoded || (!any_special && strlen(text) == n_bytes))
        check_decode(t, &list, decoded ? decoded->valuestring : spelled, what, number);
    free(spelled);
    memory_free(list.ids);
}

static void check_plain(const tokenizer *t, const cJSON *line, const char *what, int number) {
    size_t n_bytes;
    const char *text = text_of(line, &n_bytes);
    id_list list = {0};
    encode(t, text, n_bytes, false, &list);
    check_ids(&list, cJSON_GetObjectItem(line, "ids"), what, number);
    check_decode(t, &list, text, what, number);
    memory_free(list.ids);
}

/* ---- time: a long run without spaces is one heap of merges ----------------------------------- */

static void check_time(const tokenizer *t, const char *name) {
    enum { N_BYTES = 1000000 };
    uint64_t state = 7;
    char *text = malloc(N_BYTES);
    for (int kind = 0; kind < 2; kind++) {
        for (size_t i = 0; i < N_BYTES; i++)
            text[i] = kind == 0 ? 'a' : (char)('a' + test_random(&state) % 26);
        id_list list = {0};
        clock_t begin = clock();
        encode(t, text, N_BYTES, true, &list);
        double seconds = (double)(clock() - begin) / CLOCKS_PER_SEC;
        printf("%s: 1 MB of %s in %.2f s\n", name, kind == 0 ? "one letter" : "random letters", seconds);
        CHECK(seconds < 60, "tokenizing 1 MB took %.0f s: the time must not grow with its square", seconds);
        memory_free(list.ids);
    }
    free(text);
}

static void check_published(const char *folder, const char *family, bool dummy_prefix, int64_t n_tokens) {
    tokenizer_options options = {dummy_prefix, n_tokens};
    tokenizer *t;
    char *path;
    CHECK_OK(path_join(folder, family, &path, &error), error);
    CHECK_OK(tokenizer_load(path, &options, NULL, &t, &error), error);
    if (t) {
        check_file(t, path, "vectors.jsonl", check_vector);
        check_file(t, path, "plain.jsonl", check_plain);
        check_time(t, family);
    }
    tokenizer_free(t);
    memory_free(path);
}

/* ---- a small model, written here ------------------------------------------------------------- */

typedef struct buffer {
    uint8_t bytes[1 << 16];
    size_t n;
} buffer;

static void put_varint(buffer *b, uint64_t value) {
    for (; value >= 0x80; value >>= 7)
        b->bytes[b->n++] = (uint8_t)(value | 0x80);
    b->bytes[b->n++] = (uint8_t)value;
}

static void put_integer(buffer *b, uint32_t field, uint64_t value) {
    put_varint(b, field << 3);
    put_varint(b, value);
}

static void put_bytes(buffer *b, uint32_t field, const void *bytes, size_t n_bytes) {
    put_varint(b, field << 3 | 2);
    put_varint(b, n_bytes);
    memcpy(b->bytes + b->n, bytes, n_bytes);
    b->n += n_bytes;
}

static void put_piece_bytes(buffer *b, const char *text, size_t n_bytes, float score, int type) {
    buffer piece = {.n = 0};
    put_bytes(&piece, 1, text, n_bytes);
    put_varint(&piece, 2 << 3 | 5);
    memcpy(piece.bytes + piece.n, &score, 4);
    piece.n += 4;
    if (type != PIECE_NORMAL)
        put_integer(&piece, 3, (uint64_t)type);
    put_bytes(b, 1, piece.bytes, piece.n);
}

static void put_piece(buffer *b, const char *text, float score, int type) {
    put_piece_bytes(b, text, strlen(text), score, type);
}

/* <unk>, <s>, </s> and the 256 byte pieces: ids 0 to 258. */
enum { FIRST_ID = 259 };

static void put_usual_pieces(buffer *b) {
    put_piece(b, "<unk>", 0, PIECE_UNKNOWN);
    put_piece(b, "<s>", 0, PIECE_CONTROL);
    put_piece(b, "</s>", 0, PIECE_CONTROL);
    for (unsigned i = 0; i < 256; i++) {
        char text[8];
        snprintf(text, sizeof text, "<0x%02X>", i);
        put_piece(b, text, 0, PIECE_BYTE);
    }
}

static void put_specs(buffer *b, int model_type, const char *normalizer) {
    buffer spec = {.n = 0};
    put_integer(&spec, 3, (uint64_t)model_type);
    put_integer(&spec, 35, 1); /* byte_fallback */
    put_bytes(b, 2, spec.bytes, spec.n);
    spec.n = 0;
    put_bytes(&spec, 1, normalizer, strlen(normalizer));
    put_integer(&spec, 3, 0); /* add_dummy_prefix */
    put_integer(&spec, 4, 0); /* remove_extra_whitespaces */
    put_bytes(b, 3, spec.bytes, spec.n);
}

static void write_folder(const buffer *model, const char *config, const char *added) {
    test_write("tokenizer.model", model->bytes, model->n);
    test_write("tokenizer_config.json", config, strlen(config));
    test_write("added_tokens.json", added, strlen(added));
}

static tokenizer *load_folder(bool dummy_prefix) {
    tokenizer_options options = {dummy_prefix, 2000};
    tokenizer *t;
    CHECK_OK(tokenizer_load(test_folder, &options, NULL, &t, &error), error);
    return t;
}

/* Checks the tokens of pieces, given as spellings separated by '|'. */
static void check_pieces(const tokenizer *t, const text_piece *pieces, size_t n_pieces, const char *expected) {
    char found[1024] = "";
    id_list list = {0};
    CHECK_OK(tokenizer_encode(t, pieces, n_pieces, &list.ids, &list.n, &list.capacity, &error), error);
    for (size_t i = 0; i < list.n; i++)
        snprintf(found + strlen(found), sizeof found - strlen(found), "%s%s", i ? "|" : "",
                 tokenizer_spelling(t, list.ids[i]));
    CHECK(strcmp(found, expected) == 0, "\"%s...\" became %s, expected %s", n_pieces ? pieces[0].text : "", found,
          expected);
    memory_free(list.ids);
}

static void check_text(const tokenizer *t, const char *text, bool special, const char *expected) {
    check_pieces(t, &(text_piece){text, strlen(text), special}, 1, expected);
}

#define TWO_PIECES(first, first_special, second, second_special)                                                       \
    (text_piece[]){{first, strlen(first), first_special}, {second, strlen(second), second_special}}, 2

static const char rules_config[] =
    "{\"added_tokens_decoder\": {"
    "\"1\": {\"content\": \"<s>\"},"
    "\"300\": {\"content\": \"<e>\", \"rstrip\": true}, \"301\": {\"content\": \"<l>\", \"lstrip\": true},"
    "\"302\": {\"content\": \"<e>>\"}}}";

static void make_rules_model(void) {
    static buffer model;
    model.n = 0;
    put_usual_pieces(&model);
    const char *letters[] = {"\xe2\x96\x81", "a", "b", "c", "d", "e", "x", "<", ">", "[", "]"};
    for (size_t i = 0; i < sizeof letters / sizeof *letters; i++)
        put_piece(&model, letters[i], -100, PIECE_NORMAL);
    put_piece(&model, "ab", -0.0f, PIECE_NORMAL);
    put_piece(&model, "bc", 0.0f, PIECE_NORMAL);
    put_piece(&model, "cd", 1, PIECE_NORMAL);
    put_piece(&model, "de", -2, PIECE_UNUSED);
    put_piece(&model, "xx", 0, PIECE_USER_DEFINED);
    put_piece(&model, "xxx", 0, PIECE_USER_DEFINED);
    put_piece(&model, "xxa", 5, PIECE_NORMAL);
    put_piece(&model, "[UNUSED_TOKEN_7]", 0, PIECE_USER_DEFINED);
    put_piece(&model, "[UNUSED_TOKEN_x]", 0, PIECE_USER_DEFINED);
    put_piece(&model,
              "\xe2\x96\x81"
              "a",
              -3, PIECE_NORMAL);
    put_specs(&model, 2, "identity");
    write_folder(&model, rules_config, "{\"<e>\": 300, \"<plus>\": 310}");
}

static void check_rules(void) {
    make_rules_model();
    tokenizer *t = load_folder(false);
    if (!t)
        return;
    check_text(t, "abc", true, "ab|c"); /* equal scores (-0 is 0): the leftmost */
    check_text(t, "abcd", true, "ab|cd");
    check_text(t, "bcd", true, "b|cd"); /* the best score before the leftmost */
    check_text(t, "cde", true, "cd|e");
    check_text(t, "de", true, "de");      /* unused pieces merge */
    check_text(t, "xxxx", true, "xxx|x"); /* user-defined: the longest first */
    check_text(t, "xxa", true, "xx|a");   /* and they merge with nothing */
    check_text(t, "a\xc3\xa9", true, "a|<0xC3>|<0xA9>");
    check_text(t, "a b", true, "a|\xe2\x96\x81|b");
    check_text(t, "b a", true,
               "b|\xe2\x96\x81"
               "a");
    check_text(t, "</s>", true, "<|<0x2F>|<0x73>|>"); /* a control piece that is not an added token */
    check_text(t, "<s>", true, "<s>");
    check_text(t, "<s>", false, "<|<0x73>|>");
    check_text(t,
               "<e> \n\xe3\x80\x80"
               "b",
               true, "<e>|b"); /* rstrip: Unicode white space */
    check_text(t, "a \n\xe3\x80\x80<l> b", true, "a|<l>|\xe2\x96\x81|b");
    check_text(t, "<e>  <l>", true, "<e>|<l>");
    check_text(t, "<e>>", true, "<e>>"); /* the longest */
    check_pieces(t, TWO_PIECES("<e>", true, ">", false), "<e>|>");
    check_pieces(t, TWO_PIECES("<e", true, ">", true), "<e>");
    check_pieces(t, TWO_PIECES("<e", true, ">", false), "<|e|>");
    check_pieces(t, TWO_PIECES("<e>", true, "  b", false), "<e>|b"); /* white space of plain text is swallowed too */
    check_pieces(t, TWO_PIECES("a", false, "b", true), "ab");        /* merges cross the boundary */
    check_pieces(t, TWO_PIECES("x", false, "xx", true), "xxx");      /* ordinary user-defined pieces do too */
    check_text(t, "[UNUSED_TOKEN_7]", true, "[UNUSED_TOKEN_7]");
    check_text(t, "[UNUSED_TOKEN_7]", false,
               "[|<0x55>|<0x4E>|<0x55>|<0x53>|<0x45>|<0x44>|<0x5F>|<0x54>|<0x4F>|<0x4B>|<0x45>|<0x4E>|<0x5F>|<0x37>|]");
    check_text(t, "[UNUSED_TOKEN_x]", false, "[UNUSED_TOKEN_x]");
    CHECK(tokenizer_id(t, "<plus>") == 310 && tokenizer_count(t) == 311, "%d", tokenizer_count(t));
    CHECK(tokenizer_spelling(t, 305) == NULL && tokenizer_spelling(t, 311) == NULL, "an id without token is spelled");
    CHECK(tokenizer_id(t, "nothing") == -1, "%d", tokenizer_id(t, "nothing"));
    CHECK(tokenizer_is_special(t, tokenizer_id(t, "[UNUSED_TOKEN_7]")), "the marker is not special");
    CHECK(!tokenizer_is_special(t, tokenizer_id(t, "[UNUSED_TOKEN_x]")), "an ordinary piece is special");
    check_pieces(t, NULL, 0, "");
    text_piece invalid = {"ab\xc3(", 4, false};
    id_list list = {0};
    CHECK(tokenizer_encode(t, &invalid, 1, &list.ids, &list.n, &list.capacity, &error) == TROL_ERROR_ARGUMENT &&
              strstr(error.message, "byte 2"),
          "%s", error.message);
    memory_free(list.ids);
    tokenizer_free(t);
}

static void check_dummy_prefix(void) {
    make_rules_model();
    tokenizer *t = load_folder(true);
    if (!t)
        return;
    check_text(t, "a", true,
               "\xe2\x96\x81"
               "a");
    check_text(t, " a", true,
               "\xe2\x96\x81|\xe2\x96\x81"
               "a");
    check_text(t, "<e>a<e><e>  <l>b", true,
               "<e>|\xe2\x96\x81"
               "a|<e>|<e>|<l>|\xe2\x96\x81|b"); /* in each run */
    check_text(t, "", true, "");
    int32_t ids[] = {300, tokenizer_id(t, "\xe2\x96\x81"),
                     tokenizer_id(t, "\xe2\x96\x81"
                                     "a")};
    char *text;
    CHECK_OK(tokenizer_decode(t, ids, 3, false, &text, &error), error);
    CHECK(strcmp(text, " a") == 0, "\"%s\"", text); /* only one space of the whole is dropped */
    memory_free(text);
    CHECK_OK(tokenizer_decode(t, ids, 3, true, &text, &error), error);
    CHECK(strcmp(text, "<e>  a") == 0, "\"%s\"", text);
    memory_free(text);
    tokenizer_free(t);
}

static void check_broken_utf8(void) {
    make_rules_model();
    tokenizer *t = load_folder(false);
    if (!t)
        return;
    /* E2 82 (cut short), a, C3 A9 (e acute), FF, E2 82 AC (euro), F0 9F: one U+FFFD for each byte of no character. */
    int32_t ids[] = {0xe2 + 3, 0x82 + 3, FIRST_ID + 1, 0xc3 + 3, 0xa9 + 3, 0xff + 3,
                     0xe2 + 3, 0x82 + 3, 0xac + 3,     0xf0 + 3, 0x9f + 3};
    id_list list = {ids, sizeof ids / sizeof *ids, 0};
    check_decode(t, &list,
                 "\xef\xbf\xbd\xef\xbf\xbd"
                 "a\xc3\xa9\xef\xbf\xbd\xe2\x82\xac\xef\xbf\xbd\xef\xbf\xbd",
                 "bytes", 0);
    char *text;
    int32_t outside[] = {-1, 311};
    for (int i = 0; i < 2; i++)
        CHECK(tokenizer_decode(t, &outside[i], 1, true, &text, &error) == TROL_ERROR_ARGUMENT && !text, "id %d",
              outside[i]);
    tokenizer_free(t);
}

/* ---- the merging rule, against the plainest way to say it ---------------------------------------------------------
 */

typedef struct plain_piece {
    char text[8];
    float score;
} plain_piece;

enum { N_RANDOM_PIECES = 40, RANDOM_TEXT_BYTES = 60 };

static const plain_piece *find_plain(const plain_piece *pieces, const char *text, size_t n_bytes) {
    for (size_t i = 0; i < N_RANDOM_PIECES; i++)
        if (strlen(pieces[i].text) == n_bytes && memcmp(pieces[i].text, text, n_bytes) == 0)
            return &pieces[i];
    return NULL;
}

/* Merges the best pair, the leftmost of equals, until there is none; spellings separated by '|'. */
static void merge_plainly(const plain_piece *pieces, const char *text, char *result) {
    size_t begins[RANDOM_TEXT_BYTES + 1], n = strlen(text);
    for (size_t i = 0; i <= n; i++)
        begins[i] = i;
    for (;;) {
        size_t best = n;
        float score = 0;
        for (size_t i = 0; i + 1 < n; i++) {
            const plain_piece *piece = find_plain(pieces, text + begins[i], begins[i + 2] - begins[i]);
            if (piece && (best == n || piece->score > score)) {
                best = i;
                score = piece->score;
            }
        }
        if (best == n)
            break;
        memmove(&begins[best + 1], &begins[best + 2], (n - best - 1) * sizeof *begins);
        n--;
    }
    for (size_t i = 0; i < n; i++)
        result += sprintf(result, "%s%.*s", i ? "|" : "", (int)(begins[i + 1] - begins[i]), text + begins[i]);
}

static void check_merging(uint64_t seed) {
    static buffer model;
    plain_piece pieces[N_RANDOM_PIECES];
    model.n = 0;
    put_usual_pieces(&model);
    for (size_t i = 0; i < N_RANDOM_PIECES; i++) {
        do {
            size_t n = i < 3 ? 1 : 2 + test_random(&seed) % 4;
            for (size_t j = 0; j < n; j++)
                pieces[i].text[j] = (char)('a' + (i < 3 ? i : test_random(&seed) % 3));
            pieces[i].text[n] = '\0';
        } while (find_plain(pieces, pieces[i].text, strlen(pieces[i].text)) < &pieces[i]);
        pieces[i].score = (float)(test_random(&seed) % 6) - 3;
        put_piece(&model, pieces[i].text, pieces[i].score, PIECE_NORMAL);
    }
    put_specs(&model, 2, "identity");
    write_folder(&model, "{}", "{}");
    tokenizer *t = load_folder(false);
    for (int round = 0; t && round < 50; round++) {
        char text[RANDOM_TEXT_BYTES + 1] = "", expected[2 * RANDOM_TEXT_BYTES + 1] = "";
        size_t n = test_random(&seed) % RANDOM_TEXT_BYTES;
        for (size_t i = 0; i < n; i++)
            text[i] = (char)('a' + test_random(&seed) % 3);
        merge_plainly(pieces, text, expected);
        check_text(t, text, true, expected);
    }
    tokenizer_free(t);
}

/* ---- broken files ---------------------------------------------------------------------------- */

static void expect_failure(int64_t n_tokens, trol_status status, const char *words) {
    tokenizer_options options = {false, n_tokens};
    tokenizer *t = (tokenizer *)&options;
    trol_status found = tokenizer_load(test_folder, &options, NULL, &t, &error);
    CHECK(found == status && !t && strstr(error.message, words), "status %d, \"%s\", expected %d, \"%s\"", found,
          found ? error.message : "", status, words);
    if (found == TROL_OK)
        tokenizer_free(t);
}

static void check_broken_models(void) {
    static buffer model;
    struct {
        int model_type;
        const char *normalizer, *text;
        float score;
        int type;
        trol_status status;
        const char *words;
    } cases[] = {
        {1, "identity", "a", 0, 1, TROL_ERROR_UNSUPPORTED, "unigram"},
        {2, "nmt_nfkc", "a", 0, 1, TROL_ERROR_UNSUPPORTED, "nmt_nfkc"},
        {2, "identity", "", 0, 1, TROL_ERROR_FORMAT, "piece 259 has no text"},
        {2, "identity", "\xc3(", 0, 1, TROL_ERROR_FORMAT, "not valid UTF-8"},
        {2, "identity", "a", NAN, 1, TROL_ERROR_FORMAT, "finite"},
        {2, "identity", "a", 0, 9, TROL_ERROR_FORMAT, "type 9"},
        {2, "identity", "<s>", 0, 1, TROL_ERROR_FORMAT, "both spelled"},
        {2, "identity", "<0x41>", 0, 6, TROL_ERROR_FORMAT, "once"},
        {2, "identity", "<0x4g>", 0, 6, TROL_ERROR_FORMAT, "byte piece"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        model.n = 0;
        put_usual_pieces(&model);
        put_piece(&model, cases[i].text, cases[i].score, cases[i].type);
        put_specs(&model, cases[i].model_type, cases[i].normalizer);
        write_folder(&model, "{}", "{}");
        expect_failure(2000, cases[i].status, cases[i].words);
    }
    model.n = 0;
    put_piece(&model, "a", 0, PIECE_NORMAL);
    put_specs(&model, 2, "identity");
    write_folder(&model, "{}", "{}");
    expect_failure(2000, TROL_ERROR_FORMAT, "no byte piece <0x00>");
}

static void check_broken_json(void) {
    struct {
        const char *config, *added;
        int64_t n_tokens;
        trol_status status;
        const char *words;
    } cases[] = {
        {"{\"added_tokens_decoder\": []}", "{}", 2000, TROL_ERROR_FORMAT, "added_tokens_decoder"},
        {"{\"added_tokens_decoder\": {\"x\": {}}}", "{}", 2000, TROL_ERROR_FORMAT, "expected a token id"},
        {"{\"added_tokens_decoder\": {\"400\": 1}}", "{}", 2000, TROL_ERROR_FORMAT, "content"},
        {"{\"added_tokens_decoder\": {\"400\": {\"content\": \"\"}}}", "{}", 2000, TROL_ERROR_FORMAT, "400"},
        {"{\"added_tokens_decoder\": {\"400\": {\"content\": \"<x>\", \"single_word\": true}}}", "{}", 2000,
         TROL_ERROR_UNSUPPORTED, "single_word"},
        {"{\"added_tokens_decoder\": {\"400\": {\"content\": \"<x>\"}}}", "{\"<y>\": 400}", 2000, TROL_ERROR_FORMAT,
         "as well as"},
        {"{}", "{\"<y>\": 400, \"<x>\": 401}", 401, TROL_ERROR_FORMAT, "added_tokens.json: \"<x>\" is token 401"},
        {"{}", "{\"<y>\": 1}", 2000, TROL_ERROR_FORMAT, "but \"<s>\" in"},
        {"{}", "{\"<s>\": 400}", 2000, TROL_ERROR_FORMAT, "both spelled"},
        {"{}", "{\"<y>\": 1.5}", 2000, TROL_ERROR_FORMAT, "not a whole number"},
        {"{}", "{\"<y>\": -1}", 2000, TROL_ERROR_FORMAT, "-1"},
        {"{}", "[]", 2000, TROL_ERROR_FORMAT, "not a JSON object"},
        {"{}", "{", 2000, TROL_ERROR_FORMAT, "added_tokens.json"},
        {"{}", "{}", 100, TROL_ERROR_FORMAT, "embeddings for 100 tokens"},
        {"{}", "{}", 0, TROL_ERROR_ARGUMENT, "0 tokens"},
    };
    make_rules_model();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        test_write("tokenizer_config.json", cases[i].config, strlen(cases[i].config));
        test_write("added_tokens.json", cases[i].added, strlen(cases[i].added));
        expect_failure(cases[i].n_tokens, cases[i].status, cases[i].words);
    }
    test_write("tokenizer_config.json", "{}", 2);
    unlink(test_path("added_tokens.json"));
    tokenizer_free(load_folder(false)); /* this one may be missing */
    unlink(test_path("tokenizer_config.json"));
    expect_failure(2000, TROL_ERROR_IO, "tokenizer_config.json");
    unlink(test_path("tokenizer.model"));
    expect_failure(2000, TROL_ERROR_IO, "tokenizer.model");
}

/* Every cut of a model file fails; changed bytes fail or give a model that still tokenizes. */
static void check_damaged_model(void) {
    static const char text[] = "What is in the picture? \xe6\x97\xa5\xe6\x9c\xac \xf0\x9f\xa6\x84 [UNUSED_TOKEN_145]";
    char *bytes;
    size_t n_bytes, n_loaded = 0;
    uint64_t state = 3;
    CHECK_OK(file_read(TEST_REFERENCE "/e2e-internlm2/tokenizer.model", 1 << 20, &bytes, &n_bytes, &error), error);
    for (size_t n = 0; n < n_bytes; n++) {
        sentencepiece_model model;
        char *cut = malloc(n + 1); /* at its true length, so that a sanitizer sees a read past the end */
        memcpy(cut, bytes, n);
        trol_status status = sentencepiece_model_parse(cut, n, "cut", &model, &error);
        CHECK(status != TROL_OK && !model.pieces, "the first %zu of %zu bytes are taken for a model", n, n_bytes);
        sentencepiece_model_free(&model);
        free(cut);
    }
    for (int round = 0; round < 500; round++) {
        char *copy = malloc(n_bytes);
        tokenizer_options options = {false, 2000};
        tokenizer *t;
        id_list list = {0};
        memcpy(copy, bytes, n_bytes);
        for (int i = 0; i < 1 + round % 4; i++)
            copy[test_random(&state) % n_bytes] = (char)test_random(&state);
        test_write("tokenizer.model", copy, n_bytes);
        test_write("tokenizer_config.json", "{}", 2);
        if (tokenizer_load(test_folder, &options, NULL, &t, &error) == TROL_OK) {
            n_loaded++;
            encode(t, text, sizeof text - 1, true, &list);
            free(stream(t, &list));
            memory_free(list.ids);
            tokenizer_free(t);
        }
        free(copy);
    }
    CHECK(n_loaded > 0 && n_loaded < 500, "%zu of 500 damaged models loaded", n_loaded);
    memory_free(bytes);
}

int main(void) {
    const char *published = getenv("TROL_TOKENIZERS");
    tokenizer_options options = {true, 640};
    tokenizer *t;
    test_make_folder();
    check_rules();
    check_dummy_prefix();
    check_broken_utf8();
    for (uint64_t seed = 1; seed <= 10; seed++)
        check_merging(seed);
    check_broken_models();
    check_broken_json();
    test_clear_folder();
    check_damaged_model();
    test_remove_folder();
    CHECK_OK(tokenizer_load(TEST_REFERENCE "/e2e-phi3", &options, NULL, &t, &error), error);
    if (t)
        check_time(t, "e2e-phi3");
    tokenizer_free(t);
    if (published) {
        check_published(published, "internlm2", false, 92545);
        check_published(published, "phi3", true, 32064);
    } else {
        printf("TROL_TOKENIZERS is not set: the published tokenizers are not tested\n");
    }
    return test_summary("tokenizer");
}
