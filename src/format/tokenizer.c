/* tokenizer.c - loading a folder's tokenizer into tables, looking tokens up, and turning tokens back into text. */
#include "format/tokenizer.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/float16.h"
#include "base/memory.h"
#include "base/utf8.h"
#include "base/download.h"
#include "format/json.h"
#include "format/tokenizer_tables.h"

/* Published files are 0.5 to 1.5 MB. */
#define MAX_FILE_BYTES ((size_t)64 << 20)

/* ---- added tokens: tokenizer_config.json, added_tokens.json ---------------------------------- */

typedef struct added_token {
    int32_t id;
    uint8_t flags;    /* TOKEN_STRIPS_LEFT, TOKEN_STRIPS_RIGHT */
    const char *text; /* points into the JSON */
} added_token;

/* Everything read from the folder, kept until the tables are built. */
typedef struct tokenizer_files {
    char *model_path, *config_path, *added_path;
    char *model_bytes;
    sentencepiece_model model;
    cJSON *config, *added_json; /* added_json: NULL if there is no such file */
    added_token *added;         /* [n_added], sorted by id, no id twice */
    size_t n_added, added_capacity;
} tokenizer_files;

static void files_free(tokenizer_files *files) {
    memory_free(files->model_path);
    memory_free(files->config_path);
    memory_free(files->added_path);
    sentencepiece_model_free(&files->model);
    memory_free(files->model_bytes);
    cJSON_Delete(files->config);
    cJSON_Delete(files->added_json);
    memory_free(files->added);
}

static trol_status add_added_token(tokenizer_files *files, const char *path, int64_t id, const char *text,
                                   uint8_t flags, int64_t n_tokens, trol_error *error) {
    if (id < 0 || id >= n_tokens)
        return fail(error, TROL_ERROR_FORMAT,
                    "%s: \"%.100s\" is token %" PRId64 ", but the model has embeddings for 0 to %" PRId64, path, text,
                    id, n_tokens - 1);
    if (text[0] == '\0')
        return fail(error, TROL_ERROR_FORMAT, "%s: token %" PRId64 " is spelled \"\"", path, id);
    if (strlen(text) > PIECE_MAX_BYTES)
        return fail(error, TROL_ERROR_UNSUPPORTED,
                    "%s: the text of token %" PRId64 " has %zu bytes, expected at most %d", path, id, strlen(text),
                    PIECE_MAX_BYTES);
    void *added = files->added;
    TRY(memory_grow(&added, &files->added_capacity, files->n_added + 1, sizeof *files->added, path, error));
    files->added = added;
    files->added[files->n_added++] = (added_token){(int32_t)id, flags, text};
    return TROL_OK;
}

/* The id in a key such as "32000"; -1 if it is not one. */
static int64_t id_of_key(const char *key) {
    size_t length = strspn(key, "0123456789");
    if (length == 0 || length > 10 || key[length] != '\0' || (key[0] == '0' && length > 1))
        return -1;
    return strtoll(key, NULL, 10);
}

static trol_status read_decoder_entry(tokenizer_files *files, const cJSON *entry, int64_t n_tokens, trol_error *error) {
    const char *path = files->config_path, *text;
    bool left, right, single_word;
    int64_t id = id_of_key(entry->string);
    if (id < 0)
        return fail(error, TROL_ERROR_FORMAT, "%s: added_tokens_decoder has the key \"%.100s\", expected a token id",
                    path, entry->string);
    TRY(json_string(entry, path, "content", &text, error));
    TRY(json_bool_or(entry, path, "lstrip", false, &left, error));
    TRY(json_bool_or(entry, path, "rstrip", false, &right, error));
    TRY(json_bool_or(entry, path, "single_word", false, &single_word, error));
    if (single_word)
        return fail(error, TROL_ERROR_UNSUPPORTED, "%s: token %" PRId64 " has single_word true, expected false", path,
                    id);
    uint8_t flags = (uint8_t)((left ? TOKEN_STRIPS_LEFT : 0) | (right ? TOKEN_STRIPS_RIGHT : 0));
    return add_added_token(files, path, id, text, flags, n_tokens, error);
}

static int compare_added(const void *a, const void *b) {
    int32_t first = ((const added_token *)a)->id, second = ((const added_token *)b)->id;
    return (first > second) - (first < second);
}

/* If both files list a token, it must be the same one. */
static trol_status unite_added(tokenizer_files *files, trol_error *error) {
    size_t kept = 0;
    if (files->n_added > 1)
        qsort(files->added, files->n_added, sizeof *files->added, compare_added);
    for (size_t i = 0; i < files->n_added; i++) {
        const added_token *next = &files->added[i];
        added_token *last = kept ? &files->added[kept - 1] : NULL;
        if (!last || last->id != next->id) {
            files->added[kept++] = *next;
            continue;
        }
        if (strcmp(last->text, next->text) != 0)
            return fail(error, TROL_ERROR_FORMAT, "%s and %s: token %" PRId32 " is \"%.100s\" as well as \"%.100s\"",
                        files->config_path, files->added_path, next->id, last->text, next->text);
        last->flags |= next->flags;
    }
    files->n_added = kept;
    return TROL_OK;
}

static trol_status read_added_tokens(tokenizer_files *files, int64_t n_tokens, trol_error *error) {
    const cJSON *decoder, *entry;
    TRY(json_read_file(files->config_path, MAX_FILE_BYTES, &files->config, error));
    TRY(json_object_or_null(files->config, files->config_path, "added_tokens_decoder", &decoder, error));
    cJSON_ArrayForEach(entry, decoder) TRY(read_decoder_entry(files, entry, n_tokens, error));
    struct stat info;
    if (lstat(files->added_path, &info) == 0 || errno != ENOENT) /* a dangling link is reported, not ignored */
        TRY(json_read_file(files->added_path, MAX_FILE_BYTES, &files->added_json, error));
    if (files->added_json && !cJSON_IsObject(files->added_json))
        return fail(error, TROL_ERROR_FORMAT, "%s is not a JSON object", files->added_path);
    cJSON_ArrayForEach(entry, files->added_json) {
        int64_t id;
        if (!json_exact_integer(entry, &id))
            return fail(error, TROL_ERROR_FORMAT, "%s: the id of \"%.100s\" is not a whole number", files->added_path,
                        entry->string);
        TRY(add_added_token(files, files->added_path, id, entry->string, 0, n_tokens, error));
    }
    return unite_added(files, error);
}

static trol_status read_files(const char *folder, int64_t n_tokens, tokenizer_files *files, trol_error *error) {
    size_t n_bytes;
    TRY(path_join(folder, "tokenizer.model", &files->model_path, error));
    TRY(path_join(folder, "tokenizer_config.json", &files->config_path, error));
    TRY(path_join(folder, "added_tokens.json", &files->added_path, error));
    TRY(file_read(files->model_path, MAX_FILE_BYTES, &files->model_bytes, &n_bytes, error));
    TRY(download_check(files->model_path, files->model_bytes, n_bytes, error));
    TRY(sentencepiece_model_parse(files->model_bytes, n_bytes, files->model_path, &files->model, error));
    if (files->model.n_pieces > (uint64_t)n_tokens)
        return fail(error, TROL_ERROR_FORMAT, "%s has %zu pieces, but the model has embeddings for %" PRId64 " tokens",
                    files->model_path, files->model.n_pieces, n_tokens);
    return read_added_tokens(files, n_tokens, error);
}

/* ---- the tables ------------------------------------------------------------------------------ */

/* "[UNUSED_TOKEN_" digits "]": InternLM2 keeps its chat markers among the user-defined pieces. */
static bool is_marker(const sentencepiece *piece) {
    static const char prefix[] = "[UNUSED_TOKEN_";
    const size_t n_prefix = sizeof prefix - 1;
    if (piece->type != PIECE_USER_DEFINED || piece->n_bytes < n_prefix + 2 ||
        memcmp(piece->text, prefix, n_prefix) != 0)
        return false;
    for (size_t i = n_prefix; i < piece->n_bytes - 1; i++)
        if (piece->text[i] < '0' || piece->text[i] > '9')
            return false;
    return piece->text[piece->n_bytes - 1] == ']';
}

/* The byte of a piece spelled "<0x0A>"; -1 for any other spelling. */
static int byte_of_piece(const sentencepiece *piece) {
    static const char digits[] = "0123456789ABCDEF";
    if (piece->n_bytes != 6 || memcmp(piece->text, "<0x", 3) != 0 || piece->text[5] != '>')
        return -1;
    const char *high = memchr(digits, piece->text[3], 16), *low = memchr(digits, piece->text[4], 16);
    return high && low ? (int)((high - digits) * 16 + (low - digits)) : -1;
}

/* Scores in descending order as integers in ascending order; -0 and 0 are equal. */
static uint32_t rank_of_score(float score) {
    uint32_t bits = bits_from_float(score + 0.0f);
    return bits >> 31 ? bits : 0x7fffffff - bits;
}

/* Copies a spelling after the others, which take `used` bytes. There is room: the texts were counted before. */
static void put_spelling(tokenizer *t, int32_t id, const char *text, size_t n_bytes, size_t *used) {
    memcpy(t->spellings + *used, text, n_bytes);
    t->spellings[*used + n_bytes] = '\0';
    t->tokens[id].offset = (uint32_t)*used;
    t->tokens[id].n_bytes = (uint32_t)n_bytes;
    t->tokens[id].flags |= TOKEN_EXISTS;
    *used += n_bytes + 1;
    if (n_bytes > t->max_spelling_bytes)
        t->max_spelling_bytes = (uint32_t)n_bytes;
}

static trol_status put_piece(tokenizer *t, int32_t id, const sentencepiece *piece, const char *path,
                             trol_error *error) {
    token *entry = &t->tokens[id];
    entry->rank = rank_of_score(piece->score);
    if (piece->type == PIECE_BYTE) {
        int byte = byte_of_piece(piece);
        if (byte < 0 || t->byte_ids[byte] >= 0)
            return fail(error, TROL_ERROR_FORMAT,
                        "%s: byte piece %" PRId32 " is spelled \"%.*s\", expected each of <0x00> "
                        "to <0xFF> once",
                        path, id, (int)piece->n_bytes, piece->text);
        t->byte_ids[byte] = id;
        entry->byte = (uint8_t)byte;
        entry->flags |= TOKEN_BYTE;
    } else if (piece->type == PIECE_CONTROL || piece->type == PIECE_UNKNOWN) {
        entry->flags |= TOKEN_SPECIAL | TOKEN_LEFT_OUT;
    } else {
        entry->flags |= TOKEN_MATCHES | (is_marker(piece) ? TOKEN_SPECIAL : 0);
    }
    if (piece->type == PIECE_USER_DEFINED)
        TRY(byte_trie_add(&t->user_defined, piece->text, piece->n_bytes, id, error));
    return TROL_OK;
}

static trol_status put_added(tokenizer *t, const added_token *added, size_t *used, const tokenizer_files *files,
                             trol_error *error) {
    token *entry = &t->tokens[added->id];
    size_t n_bytes = strlen(added->text);
    if (!(entry->flags & TOKEN_EXISTS))
        put_spelling(t, added->id, added->text, n_bytes, used);
    else if (entry->n_bytes != n_bytes || memcmp(t->spellings + entry->offset, added->text, n_bytes) != 0)
        return fail(error, TROL_ERROR_FORMAT, "%s: token %" PRId32 " is \"%.100s\", but \"%.100s\" in %s",
                    files->config_path, added->id, added->text, t->spellings + entry->offset, files->model_path);
    entry->flags |= TOKEN_SPECIAL | TOKEN_LEFT_OUT | added->flags;
    return byte_trie_add(&t->added, added->text, n_bytes, added->id, error);
}

static trol_status put_tokens(tokenizer *t, const tokenizer_files *files, trol_error *error) {
    size_t used = 0;
    for (int i = 0; i < 256; i++)
        t->byte_ids[i] = -1;
    for (size_t i = 0; i < files->model.n_pieces; i++) {
        const sentencepiece *piece = &files->model.pieces[i];
        put_spelling(t, (int32_t)i, piece->text, piece->n_bytes, &used);
        TRY(put_piece(t, (int32_t)i, piece, files->model_path, error));
    }
    for (int i = 0; i < 256; i++)
        if (t->byte_ids[i] < 0)
            return fail(error, TROL_ERROR_FORMAT, "%s has no byte piece <0x%02X>", files->model_path, (unsigned)i);
    for (size_t i = 0; i < files->n_added; i++)
        TRY(put_added(t, &files->added[i], &used, files, error));
    return TROL_OK;
}

static trol_status build_index(tokenizer *t, const char *path, trol_error *error) {
    t->n_slots = 16;
    while (t->n_slots < 2 * (size_t)t->n_tokens)
        t->n_slots *= 2;
    TRY(memory_alloc(t->n_slots, sizeof *t->slots, "a tokenizer", (void **)&t->slots, error));
    for (size_t i = 0; i < t->n_slots; i++)
        t->slots[i] = (spelling_slot){0, -1};
    for (int32_t id = 0; id < t->n_tokens; id++) {
        const token *entry = &t->tokens[id];
        const char *text = t->spellings + entry->offset;
        if (!(entry->flags & TOKEN_EXISTS))
            continue;
        int32_t earlier = spelling_find(t, text, entry->n_bytes);
        if (earlier >= 0)
            return fail(error, TROL_ERROR_FORMAT,
                        "%s or a file beside it: tokens %" PRId32 " and %" PRId32 " are both spelled \"%.100s\"", path,
                        earlier, id, text);
        uint32_t hash = spelling_hash(text, entry->n_bytes);
        size_t place = hash & (t->n_slots - 1);
        while (t->slots[place].id >= 0)
            place = (place + 1) & (t->n_slots - 1);
        t->slots[place] = (spelling_slot){hash, id};
    }
    return TROL_OK;
}

static trol_status build_tables(tokenizer *t, const tokenizer_files *files, trol_error *error) {
    size_t n_bytes = 0;
    t->n_tokens = (int32_t)files->model.n_pieces;
    if (files->n_added && files->added[files->n_added - 1].id >= t->n_tokens)
        t->n_tokens = files->added[files->n_added - 1].id + 1;
    for (size_t i = 0; i < files->model.n_pieces; i++)
        n_bytes += files->model.pieces[i].n_bytes + 1;
    for (size_t i = 0; i < files->n_added; i++)
        n_bytes += strlen(files->added[i].text) + 1;
    TRY(memory_alloc_zero((size_t)t->n_tokens, sizeof *t->tokens, "a tokenizer", (void **)&t->tokens, error));
    TRY(memory_alloc(n_bytes, 1, "a tokenizer", (void **)&t->spellings, error));
    TRY(put_tokens(t, files, error));
    return build_index(t, files->model_path, error);
}

trol_status tokenizer_load(const char *folder, const tokenizer_options *options, const logger *log, tokenizer **result,
                           trol_error *error) {
    tokenizer_files files = {0};
    tokenizer *t = NULL;
    trol_status status;
    *result = NULL;
    if (options->n_tokens < 1 || options->n_tokens > INT32_MAX)
        return fail(error, TROL_ERROR_ARGUMENT,
                    "a tokenizer for %" PRId64 " tokens is asked for, expected 1 to %" PRId32, options->n_tokens,
                    INT32_MAX);
    TRY_GOTO(read_files(folder, options->n_tokens, &files, error), done);
    TRY_GOTO(memory_alloc_zero(1, sizeof *t, "a tokenizer", (void **)&t, error), done);
    t->dummy_prefix = options->dummy_prefix;
    TRY_GOTO(build_tables(t, &files, error), done);
    if (files.model.add_dummy_prefix != options->dummy_prefix)
        log_message(log, TROL_LOG_WARNING, "%s says add_dummy_prefix %s; this family of models is tokenized %s it",
                    files.model_path, files.model.add_dummy_prefix ? "true" : "false",
                    options->dummy_prefix ? "with" : "without");
    *result = t;
    t = NULL;
done:
    files_free(&files);
    tokenizer_free(t);
    return status;
}

void tokenizer_free(tokenizer *t) {
    if (!t)
        return;
    byte_trie_free(&t->added);
    byte_trie_free(&t->user_defined);
    memory_free(t->tokens);
    memory_free(t->spellings);
    memory_free(t->slots);
    memory_free(t);
}

/* ---- looking tokens up ----------------------------------------------------------------------- */

int32_t tokenizer_id(const tokenizer *t, const char *spelling) { return spelling_find(t, spelling, strlen(spelling)); }

const char *tokenizer_spelling(const tokenizer *t, int32_t id) {
    bool exists = id >= 0 && id < t->n_tokens && (t->tokens[id].flags & TOKEN_EXISTS);
    return exists ? t->spellings + t->tokens[id].offset : NULL;
}

bool tokenizer_is_special(const tokenizer *t, int32_t id) {
    return id >= 0 && id < t->n_tokens && (t->tokens[id].flags & TOKEN_SPECIAL);
}

size_t tokenizer_longest(const tokenizer *t) { return t->max_spelling_bytes; }

int32_t tokenizer_count(const tokenizer *t) { return t->n_tokens; }

void tokenizer_visit(const tokenizer *t, void (*visit)(void *user, const void *bytes, size_t n_bytes), void *user) {
    const uint32_t head[] = {(uint32_t)t->n_tokens, t->dummy_prefix};
    visit(user, head, sizeof head);
    for (int32_t id = 0; id < t->n_tokens; id++) {
        const token *found = &t->tokens[id];
        const uint32_t numbers[] = {found->n_bytes, found->rank, found->flags, found->byte};
        visit(user, numbers, sizeof numbers);
        visit(user, t->spellings + found->offset, found->n_bytes);
    }
}

/* ---- tokens to text -------------------------------------------------------------------------- */

static trol_status append(const char *text, size_t n_text, char **bytes, size_t *n_bytes, size_t *capacity,
                          trol_error *error) {
    void *array = *bytes;
    TRY(memory_grow(&array, capacity, *n_bytes + n_text, 1, "a text", error));
    *bytes = array;
    if (n_text)
        memcpy(*bytes + *n_bytes, text, n_text);
    *n_bytes += n_text;
    return TROL_OK;
}

trol_status tokenizer_append_bytes(const tokenizer *t, int32_t id, bool first, char **bytes, size_t *n_bytes,
                                   size_t *capacity, trol_error *error) {
    if (id < 0 || id >= t->n_tokens)
        return fail(error, TROL_ERROR_ARGUMENT, "token %" PRId32 " is out of range, expected 0 to %" PRId32, id,
                    t->n_tokens - 1);
    const token *entry = &t->tokens[id];
    if (!(entry->flags & TOKEN_EXISTS) || (entry->flags & TOKEN_LEFT_OUT))
        return TROL_OK;
    bool drop_space = first && t->dummy_prefix;
    if (entry->flags & TOKEN_BYTE)
        return append((const char *)&entry->byte, drop_space && entry->byte == ' ' ? 0 : 1, bytes, n_bytes, capacity,
                      error);
    const char *at = t->spellings + entry->offset, *end = at + entry->n_bytes;
    while (at < end) {
        bool space = (size_t)(end - at) >= SPACE_SYMBOL_BYTES && memcmp(at, SPACE_SYMBOL, SPACE_SYMBOL_BYTES) == 0;
        bool dropped = drop_space && (space || *at == ' ');
        TRY(append(space ? " " : at, dropped ? 0 : 1, bytes, n_bytes, capacity, error));
        at += space ? SPACE_SYMBOL_BYTES : 1;
        drop_space = false;
    }
    return TROL_OK;
}

trol_status tokenizer_decode(const tokenizer *t, const int32_t *ids, size_t n_ids, bool with_special, char **text,
                             trol_error *error) {
    char *bytes = NULL;
    size_t n_bytes = 0, capacity = 0, used;
    bool first = true; /* no token has had a text so far */
    void *repaired = NULL;
    trol_status status = TROL_OK;
    *text = NULL;
    for (size_t i = 0; i < n_ids; i++) {
        const token *entry = ids[i] >= 0 && ids[i] < t->n_tokens ? &t->tokens[ids[i]] : NULL;
        if (entry && (entry->flags & TOKEN_LEFT_OUT)) {
            if (!with_special)
                continue;
            TRY_GOTO(append(t->spellings + entry->offset, entry->n_bytes, &bytes, &n_bytes, &capacity, error), done);
        } else {
            TRY_GOTO(tokenizer_append_bytes(t, ids[i], first, &bytes, &n_bytes, &capacity, error), done);
        }
        first = false;
    }
    TRY_GOTO(memory_alloc(UTF8_REPAIRED_BYTES(n_bytes) + 1, 1, "a text", &repaired, error), done);
    ((char *)repaired)[utf8_repair(bytes, n_bytes, true, repaired, &used)] = '\0';
    *text = repaired;
done:
    memory_free(bytes);
    return status;
}
