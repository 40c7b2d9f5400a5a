/* fuzz-tokenizer.c - any bytes as tokenizer.model, as tokenizer_config.json beside a small model, as added_tokens.json
 * beside it, or as a text for it; the first byte says which. A plain text comes back from its tokens as it was. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/utf8.h"
#include "format/tokenizer.h"

static char folder[512];    /* in $TMPDIR or /tmp; holds the usual files between runs */
static tokenizer *usual[2]; /* without and with the dummy prefix, from those files */

static const char *const file_names[] = {"tokenizer.model", "tokenizer_config.json", "added_tokens.json"};

static const char config[] = "{\"added_tokens_decoder\":{"
                             "\"300\":{\"content\":\"<image>\",\"special\":true,\"rstrip\":true},"
                             "\"301\":{\"content\":\"<|end|>\",\"special\":true,\"lstrip\":true}}}";

/* ---- a small model --------------------------------------------------------------------------- */

typedef struct buffer {
    uint8_t bytes[1 << 16];
    size_t n;
} buffer;

static void put(buffer *b, const void *bytes, size_t n) {
    memcpy(b->bytes + b->n, bytes, n);
    b->n += n;
}

static void put_piece(buffer *b, const char *text, float score, int type) {
    size_t n = strlen(text);
    uint8_t head[] = {1 << 3 | 2, (uint8_t)(n + 9), 1 << 3 | 2, (uint8_t)n}, score_key = 2 << 3 | 5;
    uint8_t tail[] = {3 << 3, (uint8_t)type};
    put(b, head, sizeof head);
    put(b, text, n);
    put(b, &score_key, 1);
    put(b, &score, sizeof score);
    put(b, tail, sizeof tail);
}

static void put_model(buffer *b) {
    static const char spaced[] = {'\xe2', '\x96', '\x81', 'a', 0};
    static const char *const pieces[] = {"a", "b", "c", "\xe2\x96\x81", "ab", "bc", "abc", spaced, "\xc3\xa9", "\n"};
    /* trainer: BPE, byte fallback; normalizer: identity, no prefix, white space as it is */
    static const uint8_t specs[] = {2 << 3 | 2, 5,   3 << 3, 2,   0x98, 2,   1,   3 << 3 | 2, 14, 1 << 3 | 2, 8, 'i',
                                    'd',        'e', 'n',    't', 'i',  't', 'y', 3 << 3,     0,  4 << 3,     0};
    put_piece(b, "<unk>", 0, 2);
    put_piece(b, "<s>", 0, 3);
    put_piece(b, "</s>", 0, 3);
    for (int i = 0; i < 256; i++) {
        char text[8];
        snprintf(text, sizeof text, "<0x%02X>", i);
        put_piece(b, text, 0, 6);
    }
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++)
        put_piece(b, pieces[i], -(float)i, 1);
    put_piece(b, "xx", 0, 4);
    put_piece(b, "[UNUSED_TOKEN_5]", 0, 4);
    put(b, specs, sizeof specs);
}

/* ---- files ----------------------------------------------------------------------------------- */

static void write_file(const char *name, const void *bytes, size_t n_bytes) {
    char path[600];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    unlink(path); /* overwriting makes some file systems wait for the disk */
    int descriptor = open(path, O_WRONLY | O_CREAT, 0600);
    if (descriptor < 0 || (n_bytes && write(descriptor, bytes, n_bytes) != (ssize_t)n_bytes))
        abort();
    close(descriptor);
}

static void write_usual_files(void) {
    static buffer model;
    model.n = 0;
    put_model(&model);
    write_file("tokenizer.model", model.bytes, model.n);
    write_file("tokenizer_config.json", config, sizeof config - 1);
    write_file("added_tokens.json", "{}", 2);
}

static tokenizer *load(bool dummy_prefix) {
    trol_error error = {0};
    tokenizer *t;
    tokenizer_options options = {.dummy_prefix = dummy_prefix, .n_tokens = 400};
    if (tokenizer_load(folder, &options, NULL, &t, &error) != TROL_OK && (error.message[0] == '\0' || t))
        abort();
    return t;
}

static void clean_up(void) {
    char path[600];
    for (size_t i = 0; i < sizeof file_names / sizeof *file_names; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, file_names[i]);
        unlink(path);
    }
    rmdir(folder);
    for (int i = 0; i < 2; i++)
        tokenizer_free(usual[i]);
}

int LLVMFuzzerInitialize(int *n_arguments, char ***arguments) {
    const char *parent = getenv("TMPDIR");
    (void)n_arguments, (void)arguments;
    snprintf(folder, sizeof folder, "%s/trol-fuzz-XXXXXX", parent && strlen(parent) < 400 ? parent : "/tmp");
    if (!mkdtemp(folder))
        abort();
    write_usual_files();
    for (int i = 0; i < 2; i++)
        if (!(usual[i] = load(i)))
            abort();
    atexit(clean_up);
    return 0;
}

/* ---- texts ----------------------------------------------------------------------------------- */

/* The bytes that the tokens spell, put together one by one. */
static size_t spell(const tokenizer *t, const int32_t *ids, size_t n, char **bytes) {
    size_t n_bytes = 0, capacity = 0;
    bool first = true;
    trol_error error = {0};
    for (size_t i = 0; i < n; i++) {
        if (ids[i] < 0 || ids[i] >= tokenizer_count(t))
            abort();
        if (tokenizer_append_bytes(t, ids[i], first, bytes, &n_bytes, &capacity, &error) != TROL_OK)
            abort();
        first = first && tokenizer_is_special(t, ids[i]);
    }
    return n_bytes;
}

/* Plain text comes back, except for U+2581, which stands for a space. */
static void check_plain(const tokenizer *t, const char *text, size_t n_bytes) {
    int32_t *ids = NULL;
    size_t n = 0, capacity = 0, n_expected = 0;
    char *bytes = NULL, *expected = malloc(n_bytes + 1);
    trol_error error = {0};
    text_piece pieces[2] = {{text, n_bytes / 2, false}, {text + n_bytes / 2, n_bytes - n_bytes / 2, false}};
    while ((pieces[1].n_bytes && (*pieces[1].text & 0xc0) == 0x80)) { /* only at a boundary of characters */
        pieces[0].n_bytes++;
        pieces[1].text++;
        pieces[1].n_bytes--;
    }
    if (tokenizer_encode(t, pieces, 2, &ids, &n, &capacity, &error) != TROL_OK)
        abort();
    for (size_t i = 0; i < n_bytes; i++) {
        bool symbol = n_bytes - i >= 3 && memcmp(text + i, "\xe2\x96\x81", 3) == 0;
        expected[n_expected++] = symbol ? ' ' : text[i];
        i += symbol ? 2 : 0;
    }
    size_t n_spelled = spell(t, ids, n, &bytes);
    if (n_spelled != n_expected || (n_spelled && memcmp(bytes, expected, n_spelled) != 0))
        abort();
    memory_free(bytes);
    memory_free(ids);
    free(expected);
}

static void check_text(const tokenizer *t, const char *text, size_t n_bytes) {
    int32_t *ids = NULL;
    size_t n = 0, capacity = 0;
    char *decoded = NULL, *bytes = NULL;
    trol_error error = {0};
    text_piece piece = {text, n_bytes, true};
    bool valid = utf8_valid_prefix(text, n_bytes) == n_bytes;
    if ((tokenizer_encode(t, &piece, 1, &ids, &n, &capacity, &error) == TROL_OK) != valid)
        abort();
    if (tokenizer_decode(t, ids, n, n_bytes % 2, &decoded, &error) != TROL_OK ||
        utf8_valid_prefix(decoded, strlen(decoded)) != strlen(decoded))
        abort();
    spell(t, ids, n, &bytes);
    memory_free(bytes);
    memory_free(decoded);
    memory_free(ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes) {
    if (n_bytes == 0)
        return 0;
    int kind = bytes[0] % 4, dummy_prefix = bytes[0] / 4 % 2;
    const char *text = (const char *)bytes + 1;
    if (kind == 3) {
        check_text(usual[dummy_prefix], text, n_bytes - 1);
        if (utf8_valid_prefix(text, n_bytes - 1) == n_bytes - 1)
            check_plain(usual[dummy_prefix], text, n_bytes - 1);
        return 0;
    }
    write_file(file_names[kind], text, n_bytes - 1);
    tokenizer *t = load(dummy_prefix);
    write_usual_files();
    if (t)
        check_text(t, "abc <image>  x [UNUSED_TOKEN_5]</s>\n<0x41>\xc3\xa9\xf0\x9f\x98\x80", 42);
    tokenizer_free(t);
    return 0;
}
