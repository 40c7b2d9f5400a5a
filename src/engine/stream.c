/* stream.c - tokens in, text out. Held back are incomplete characters, white space, which is shown only if something
 * follows it, and what may still become a stop string. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "engine/model.h"
#include "engine/params.h"

struct trol_stream {
    trol_model *model;
    bool keep_space, special;
    char **stops; /* [n_stops] */
    size_t n_stops;
    char *bytes; /* [n_bytes]: the beginning of a character, or one token's bytes */
    size_t n_bytes, bytes_capacity;
    char *text; /* [n_text]: whole characters that were not shown yet */
    size_t n_text, text_capacity;
    char *out; /* what the last call returned */
    size_t out_capacity;
    bool any_token, started, stopped; /* started: something was shown */
};

void trol_stream_params_init(trol_stream_params *params) {
    if (params)
        *params = (trol_stream_params){.size = sizeof *params};
}

static trol_status copy_stops(trol_stream *s, const trol_stream_params *p, trol_error *error) {
    if (p->n_stops > 0 && !p->stops)
        return fail(error, TROL_ERROR_ARGUMENT, "the stop strings are NULL, expected %zu", p->n_stops);
    s->stops = calloc(p->n_stops + 1, sizeof *s->stops);
    if (!s->stops)
        return fail_memory(error, p->n_stops * sizeof *s->stops, "stop strings");
    for (size_t i = 0; i < p->n_stops; i++) {
        if (!p->stops[i] || !p->stops[i][0])
            return fail(error, TROL_ERROR_ARGUMENT, "stop string %zu is NULL or empty", i + 1);
        const size_t length = strlen(p->stops[i]);
        if (utf8_valid_prefix(p->stops[i], length) != length)
            return fail(error, TROL_ERROR_ARGUMENT, "stop string %zu is not valid UTF-8", i + 1);
        TRY(memory_copy_text(p->stops[i], length, &s->stops[i], error));
        s->n_stops++;
    }
    return TROL_OK;
}

trol_status trol_stream_new(const trol_model *model, const trol_stream_params *params, trol_stream **result,
                            trol_error *error) {
    TRY_OUT(result, "trol_stream_new", error);
    if (!model)
        return fail(error, TROL_ERROR_ARGUMENT, "trol_stream_new: the model is NULL");
    trol_stream_params p;
    trol_stream_params_init(&p);
    TRY(params_copy(&p, sizeof p, params, "trol_stream_params", error));
    trol_stream *s = calloc(1, sizeof *s);
    if (!s)
        return fail_memory(error, sizeof *s, "a stream of text");
    s->model = model_retain((trol_model *)model); /* counted, not changed */
    s->keep_space = p.keep_space != 0;
    s->special = p.special != 0;
    trol_status status = copy_stops(s, &p, error);
    if (status != TROL_OK) {
        trol_stream_free(s);
        return status;
    }
    *result = s;
    return TROL_OK;
}

void trol_stream_free(trol_stream *s) {
    if (!s)
        return;
    for (size_t i = 0; i < s->n_stops; i++)
        memory_free(s->stops[i]);
    free(s->stops);
    memory_free(s->bytes);
    memory_free(s->text);
    memory_free(s->out);
    trol_model_free(s->model);
    free(s);
}

void trol_stream_reset(trol_stream *s) {
    if (!s)
        return;
    s->n_bytes = s->n_text = 0;
    s->any_token = s->started = s->stopped = false;
}

/* ---- a token's bytes ------------------------------------------------------------------------- */

static trol_status append_bytes(trol_stream *s, const char *bytes, size_t n, trol_error *error) {
    TRY(memory_grow((void **)&s->bytes, &s->bytes_capacity, s->n_bytes + n, 1, "a stream of text", error));
    memcpy(s->bytes + s->n_bytes, bytes, n);
    s->n_bytes += n;
    return TROL_OK;
}

static trol_status append_token(trol_stream *s, int32_t token, trol_error *error) {
    const tokenizer *t = s->model->tokenizer;
    const bool first = !s->any_token;
    if (!t) {
        char number[16];
        const int n = snprintf(number, sizeof number, first ? "%d" : " %d", token);
        s->any_token = true;
        return append_bytes(s, number, (size_t)n, error);
    }
    const char *spelling = tokenizer_spelling(t, token);
    if (!spelling) /* a row of the vocabulary without a token: it has no text */
        return TROL_OK;
    const size_t before = s->n_bytes;
    if (s->special && tokenizer_is_special(t, token))
        TRY(append_bytes(s, spelling, strlen(spelling), error));
    else
        TRY(tokenizer_append_bytes(t, token, first, &s->bytes, &s->n_bytes, &s->bytes_capacity, error));
    s->any_token = s->any_token || s->n_bytes > before || !tokenizer_is_special(t, token);
    return TROL_OK;
}

/* Moves the whole characters of the bytes to the text's end; with `last` all, a character that was cut as U+FFFD. NUL,
 * which a C string cannot hold, is left out. */
static trol_status decode_bytes(trol_stream *s, bool last, trol_error *error) {
    size_t n_used;
    TRY(memory_grow((void **)&s->text, &s->text_capacity, s->n_text + UTF8_REPAIRED_BYTES(s->n_bytes) + 1, 1,
                    "a stream of text", error));
    const size_t end = s->n_text + utf8_repair(s->bytes, s->n_bytes, last, s->text + s->n_text, &n_used);
    for (size_t i = s->n_text; i < end; i++)
        if (s->text[i] != '\0')
            s->text[s->n_text++] = s->text[i];
    s->n_bytes -= n_used;
    if (s->n_bytes > 0) /* else there may be no memory yet */
        memmove(s->bytes, s->bytes + n_used, s->n_bytes);
    return TROL_OK;
}

/* ---- what may be shown ----------------------------------------------------------------------- */

/* Looks for a stop string that ends after the first `known` bytes of the text: the one that is complete first, the
 * longest on a tie. The text then ends before it. */
static void find_stop(trol_stream *s, size_t known) {
    for (size_t end = known + 1; end <= s->n_text; end++) {
        size_t longest = 0;
        for (size_t i = 0; i < s->n_stops; i++) {
            const size_t length = strlen(s->stops[i]);
            if (length > longest && length <= end && memcmp(s->text + end - length, s->stops[i], length) == 0)
                longest = length;
        }
        if (longest > 0) {
            s->stopped = true;
            s->n_text = end - longest;
            return;
        }
    }
}

/* Bytes at the text's end with which a stop string begins. */
static size_t stop_begun(const trol_stream *s) {
    size_t longest = 0;
    for (size_t i = 0; i < s->n_stops; i++) {
        size_t n = strlen(s->stops[i]) - 1;
        for (n = n < s->n_text ? n : s->n_text; n > longest; n--)
            if (memcmp(s->text + s->n_text - n, s->stops[i], n) == 0)
                longest = n;
    }
    return longest;
}

/* Removes from the text what may be shown; with `last` nothing follows it. */
static trol_status show(trol_stream *s, bool last, const char **text, trol_error *error) {
    const size_t limit = last ? s->n_text : s->n_text - stop_begun(s);
    size_t begin = 0, end = s->keep_space ? limit : 0;
    for (size_t i = 0, length; i < limit && !s->keep_space; i += length) {
        uint32_t c = 0;
        length = utf8_decode(s->text + i, limit - i, &c);
        if (!utf8_is_space(c))
            end = i + length;
        else if (!s->started && end == 0)
            begin = i + length;
    }
    const size_t n = end > begin ? end - begin : 0;
    TRY(memory_grow((void **)&s->out, &s->out_capacity, n + 1, 1, "a stream of text", error));
    if (n > 0) {
        memcpy(s->out, s->text + begin, n);
        s->started = true;
        s->n_text -= end;
        memmove(s->text, s->text + end, s->n_text);
    }
    s->out[n] = '\0';
    *text = s->out;
    return TROL_OK;
}

/* ---- the calls ------------------------------------------------------------------------------- */

static trol_status advance(trol_stream *s, bool last, const char **text, trol_error *error) {
    const size_t known = s->n_text;
    TRY(decode_bytes(s, last, error));
    find_stop(s, known);
    TRY(show(s, last || s->stopped, text, error));
    if (s->stopped)
        s->n_text = s->n_bytes = 0;
    return TROL_OK;
}

static trol_status check(const trol_stream *s, const char *call, const char **text, trol_error *error) {
    TRY_OUT(text, call, error);
    if (!s)
        return fail(error, TROL_ERROR_ARGUMENT, "%s: the stream is NULL", call);
    return TROL_OK;
}

trol_status trol_stream_put(trol_stream *s, int32_t token, const char **text, int32_t *stopped, trol_error *error) {
    if (stopped)
        *stopped = 0;
    TRY(check(s, "trol_stream_put", text, error));
    TRY(model_check_token(s->model, token, error));
    if (!s->stopped)
        TRY(append_token(s, token, error));
    TRY(advance(s, false, text, error));
    if (stopped)
        *stopped = s->stopped;
    return TROL_OK;
}

trol_status trol_stream_end(trol_stream *s, const char **text, trol_error *error) {
    TRY(check(s, "trol_stream_end", text, error));
    return advance(s, true, text, error);
}
