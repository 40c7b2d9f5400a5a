/* snapshot.c - a session in a file: tokens, pictures, keys, values and logits, to go on later with the same model.
 *
 * The file is a header of fixed size, then tokens, logits, pictures and the blocks of both planes, and at last a
 * checksum of all before it. It is written and read on machines of the same byte order; nothing in it is trusted: every
 * count is checked against the model and the file's size before it is used. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/output.h"
#include "engine/session.h"

static const char magic[8] = "TROLSES1";
enum { BYTE_ORDER_MARK = 0x01020304 };

typedef struct snapshot_header {
    char magic[8];
    uint32_t byte_order, header_bytes;
    uint64_t model_fingerprint;
    int32_t context_size, traversal, cache_type, keep_pass2;
    float traversal_skip;
    uint32_t rope_mixed, has_logits, has_pending;
    int32_t pending_token;
    uint32_t n_features;
    uint64_t n_tokens, n_prompt, n_pass2, n_picture_scope, prompt_total;
    double rope_variant;
} snapshot_header;

typedef struct picture_header {
    int32_t n_tokens, n_tiles;
} picture_header;

/* FNV-1a, byte by byte, so that it does not depend on how the bytes are cut. */
static uint64_t hash_more(uint64_t hash, const void *bytes, size_t n_bytes) {
    const unsigned char *b = bytes;
    for (size_t i = 0; i < n_bytes; i++)
        hash = (hash ^ b[i]) * 1099511628211ull;
    return hash;
}

static const uint64_t hash_start = 14695981039346656037ull;

/* Tells models apart: sizes, and the norms and gate of each layer. */
static uint64_t model_fingerprint(const trol_model *model) {
    const decoder_config *c = &model->config.decoder;
    const decoder_weights *w = &model->weights->decoder;
    const size_t row = (size_t)c->hidden_size * sizeof(float);
    const int64_t sizes[] = {c->vocab_size, c->hidden_size, c->intermediate_size,
                             c->n_layers,   c->n_heads,     c->n_kv_heads};
    uint64_t hash = hash_more(hash_start, sizes, sizeof sizes);
    hash = hash_more(hash, w->norm, row);
    for (int64_t i = 0; i < c->n_layers; i++) {
        hash = hash_more(hash, w->layers[i].attention_norm, row);
        hash = hash_more(hash, w->layers[i].ffn_norm, row);
        if (w->has_gate)
            hash = hash_more(hash, w->layers[i].mixer_weight, row);
    }
    return hash;
}

/* ---- writing --------------------------------------------------------------------------------- */

typedef struct writer {
    output out;
    uint64_t hash;
    trol_error *error;
} writer;

static trol_status put(writer *w, const void *bytes, size_t n_bytes) {
    w->hash = hash_more(w->hash, bytes, n_bytes);
    return output_write(&w->out, bytes, n_bytes, w->error);
}

static trol_status put_plane(writer *w, const kv_plane *plane, size_t n_tokens) {
    for (size_t i = 0; i * KV_BLOCK_TOKENS < n_tokens; i++)
        TRY(put(w, kv_plane_block(plane, i), kv_block_bytes(&plane->shape)));
    return TROL_OK;
}

static trol_status put_session(writer *w, const trol_session *s) {
    const int64_t hidden = s->model->config.decoder.hidden_size;
    snapshot_header h = {.byte_order = BYTE_ORDER_MARK,
                         .header_bytes = sizeof h,
                         .model_fingerprint = model_fingerprint(s->model),
                         .context_size = s->params.context_size,
                         .traversal = (int32_t)s->params.traversal,
                         .cache_type = (int32_t)s->params.cache_type,
                         .keep_pass2 = s->params.keep_pass2 != 0,
                         .traversal_skip = s->params.traversal_skip,
                         .rope_mixed = s->rope_mixed,
                         .has_logits = s->has_logits,
                         .has_pending = s->has_pending,
                         .pending_token = s->pending_token,
                         .n_features = (uint32_t)s->n_features,
                         .n_tokens = s->n_tokens,
                         .n_prompt = s->n_prompt,
                         .n_pass2 = s->n_pass2,
                         .n_picture_scope = s->n_picture_scope,
                         .prompt_total = s->prompt_total,
                         .rope_variant = s->rope_variant};
    memcpy(h.magic, magic, sizeof magic);
    TRY(put(w, &h, sizeof h));
    TRY(put(w, s->tokens, s->n_tokens * sizeof *s->tokens));
    if (s->has_logits)
        TRY(put(w, s->logits, (size_t)s->model->config.decoder.vocab_size * sizeof *s->logits));
    for (size_t i = 0; i < s->n_features; i++) {
        const trol_features *f = s->features[i];
        const picture_header picture = {f->n_tokens, f->n_tiles};
        TRY(put(w, &picture, sizeof picture));
        TRY(put(w, f->data, (size_t)f->n_tokens * (size_t)hidden * sizeof *f->data));
    }
    TRY(put_plane(w, &s->pass1, s->n_tokens));
    TRY(put_plane(w, &s->pass2, s->n_pass2));
    const uint64_t hash = w->hash;
    return put(w, &hash, sizeof hash);
}

trol_status trol_session_save(const trol_session *s, const char *path, trol_error *error) {
    TRY(session_check(s, "trol_session_save", error));
    if (!path || !*path)
        return fail(error, TROL_ERROR_ARGUMENT, "trol_session_save: the path is NULL or empty");
    if (s->in_prompt)
        return fail(error, TROL_ERROR_STATE, "trol_session_save: the prompt has not ended");
    writer w = {.hash = hash_start, .error = error};
    TRY(output_open(path, &w.out, error));
    trol_status status = put_session(&w, s);
    if (status == TROL_OK)
        return output_commit(&w.out, error);
    output_discard(&w.out);
    return status;
}

/* ---- reading --------------------------------------------------------------------------------- */

typedef struct reader {
    FILE *file;
    const char *path;
    uint64_t hash;
    int64_t left; /* bytes of the file not read yet */
    trol_error *error;
} reader;

static trol_status get(reader *r, void *bytes, size_t n_bytes) {
    if ((uint64_t)r->left < n_bytes)
        return fail(r->error, TROL_ERROR_FORMAT,
                    "%s: the file is cut short, it has %lld bytes less than its header says", r->path,
                    (long long)(n_bytes - (uint64_t)r->left));
    if (n_bytes > 0 && fread(bytes, 1, n_bytes, r->file) != n_bytes)
        return fail(r->error, TROL_ERROR_IO, "%s: the file cannot be read: %s", r->path, strerror(errno));
    r->hash = hash_more(r->hash, bytes, n_bytes);
    r->left -= (int64_t)n_bytes;
    return TROL_OK;
}

static trol_status check_header(const reader *r, const trol_model *model, const snapshot_header *h) {
    if (memcmp(h->magic, magic, sizeof magic) != 0)
        return fail(r->error, TROL_ERROR_FORMAT, "%s: the file is no saved session (it does not begin with %.8s)",
                    r->path, magic);
    if (h->byte_order != BYTE_ORDER_MARK || h->header_bytes != sizeof *h)
        return fail(r->error, TROL_ERROR_UNSUPPORTED, "%s: the session was saved on a machine of another kind",
                    r->path);
    if (h->model_fingerprint != model_fingerprint(model))
        return fail(r->error, TROL_ERROR_ARGUMENT, "%s: the session was saved with another model", r->path);
    const uint64_t context = h->context_size > 0 ? (uint64_t)h->context_size : 0;
    if (h->n_tokens > context || h->n_prompt > h->n_tokens || h->n_pass2 > h->n_tokens ||
        h->n_picture_scope > context || h->prompt_total > context || h->rope_mixed > 1 || h->has_logits > 1 ||
        h->has_pending > 1 || h->n_features > context || !isfinite(h->rope_variant) ||
        (h->has_logits && (h->n_tokens == 0 || h->prompt_total == 0)))
        return fail(r->error, TROL_ERROR_FORMAT, "%s: the header's counts contradict each other", r->path);
    return TROL_OK;
}

/* Tokens must be the model's, and image tokens must find their pictures' rows. */
static trol_status check_tokens(const reader *r, const trol_session *s) {
    size_t n_image = 0, rows = 0;
    for (size_t i = 0; i < s->n_tokens; i++) {
        TRY(model_check_token(s->model, s->tokens[i], r->error));
        n_image += i < s->n_picture_scope && s->tokens[i] == s->model->image_token;
    }
    for (size_t i = 0; i < s->n_features; i++)
        rows += (size_t)s->features[i]->n_tokens;
    if (n_image > rows)
        return fail(r->error, TROL_ERROR_FORMAT, "%s: %zu image tokens, but pictures with %zu rows", r->path, n_image,
                    rows);
    return s->has_pending ? model_check_token(s->model, s->pending_token, r->error) : TROL_OK;
}

static trol_status get_picture(reader *r, trol_session *s) {
    const int64_t hidden = s->model->config.decoder.hidden_size;
    picture_header picture;
    float *data;
    TRY(get(r, &picture, sizeof picture));
    if (picture.n_tokens < 1 || picture.n_tiles < 1 || picture.n_tokens > r->left / (hidden * (int64_t)sizeof *data))
        return fail(r->error, TROL_ERROR_FORMAT, "%s: picture %zu has %d rows, more than the file holds", r->path,
                    s->n_features + 1, picture.n_tokens);
    const size_t count = (size_t)picture.n_tokens * (size_t)hidden;
    TRY(memory_alloc(count, sizeof *data, "a picture's features", (void **)&data, r->error));
    trol_status status = get(r, data, count * sizeof *data);
    if (status != TROL_OK) {
        memory_free(data);
        return status;
    }
    TRY(features_new(s->model, data, picture.n_tokens, picture.n_tiles, &s->features[s->n_features], r->error));
    s->n_features++;
    return TROL_OK;
}

static trol_status get_plane(reader *r, kv_plane *plane, size_t n_tokens) {
    const size_t n_blocks = (n_tokens + KV_BLOCK_TOKENS - 1) / KV_BLOCK_TOKENS, block = kv_block_bytes(&plane->shape);
    if (n_blocks > (uint64_t)r->left / block)
        return fail(r->error, TROL_ERROR_FORMAT, "%s: the file is cut short in the keys and values of %zu tokens",
                    r->path, n_tokens);
    TRY(kv_plane_reserve(plane, 0, (int64_t)n_tokens, r->error));
    for (size_t i = 0; i < n_blocks; i++)
        TRY(get(r, kv_plane_block(plane, i), block));
    return TROL_OK;
}

static trol_status get_session(reader *r, const snapshot_header *h, trol_session *s) {
    if (h->n_tokens > (uint64_t)r->left / sizeof *s->tokens)
        return fail(r->error, TROL_ERROR_FORMAT, "%s: the file is cut short in its tokens", r->path);
    TRY(session_reserve_tokens(s, (size_t)h->n_tokens, r->error));
    TRY(get(r, s->tokens, (size_t)h->n_tokens * sizeof *s->tokens));
    if (h->has_logits)
        TRY(get(r, s->logits, (size_t)s->model->config.decoder.vocab_size * sizeof *s->logits));
    s->features = calloc((size_t)h->n_features + 1, sizeof *s->features);
    if (!s->features)
        return fail_memory(r->error, h->n_features * sizeof *s->features, "a session's pictures");
    for (uint32_t i = 0; i < h->n_features; i++)
        TRY(get_picture(r, s));
    TRY(get_plane(r, &s->pass1, (size_t)h->n_tokens));
    TRY(get_plane(r, &s->pass2, (size_t)h->n_pass2));
    const uint64_t expected = r->hash;
    uint64_t found;
    TRY(get(r, &found, sizeof found));
    if (found != expected || r->left != 0)
        return fail(r->error, TROL_ERROR_FORMAT, "%s: the file is damaged: its checksum differs", r->path);
    s->n_tokens = (size_t)h->n_tokens;
    s->n_prompt = (size_t)h->n_prompt;
    s->n_pass2 = (size_t)h->n_pass2;
    s->n_picture_scope = (size_t)h->n_picture_scope;
    s->prompt_total = (size_t)h->prompt_total;
    s->rope_variant = h->rope_variant;
    s->rope_mixed = h->rope_mixed != 0;
    s->has_logits = h->has_logits != 0;
    s->has_pending = h->has_pending != 0;
    s->pending_token = h->pending_token;
    return check_tokens(r, s);
}

static trol_status read_session(reader *r, trol_model *model, trol_session **session) {
    snapshot_header h;
    TRY(get(r, &h, sizeof h));
    TRY(check_header(r, model, &h));
    trol_session_params params;
    trol_session_params_init(&params);
    params.context_size = h.context_size;
    params.traversal = (trol_traversal)h.traversal;
    params.cache_type = (trol_cache_type)h.cache_type;
    params.keep_pass2 = h.keep_pass2;
    params.traversal_skip = h.traversal_skip;
    trol_status status = trol_session_new(model, &params, session, r->error);
    if (status == TROL_OK)
        status = get_session(r, &h, *session);
    if (status != TROL_OK) {
        trol_session_free(*session);
        *session = NULL;
    }
    /* Parameters and tokens that no session would take are the file's fault here. */
    return status == TROL_ERROR_ARGUMENT ? fail_prefix(r->error, TROL_ERROR_FORMAT, r->path) : status;
}

trol_status trol_session_load(trol_model *model, const char *path, trol_session **session, trol_error *error) {
    if (!session)
        return fail(error, TROL_ERROR_ARGUMENT, "trol_session_load: the out-pointer is NULL");
    *session = NULL;
    if (!model || !path)
        return fail(error, TROL_ERROR_ARGUMENT, "trol_session_load: the model or the path is NULL");
    reader r = {.file = fopen(path, "rb"), .path = path, .hash = hash_start, .error = error};
    struct stat info;
    if (!r.file || fstat(fileno(r.file), &info) != 0 || !S_ISREG(info.st_mode)) {
        trol_status status = fail(error, TROL_ERROR_IO, "%s: the file cannot be read: %s", path,
                                  r.file ? "it is no regular file" : strerror(errno));
        if (r.file)
            fclose(r.file);
        return status;
    }
    r.left = (int64_t)info.st_size;
    trol_status status = read_session(&r, model, session);
    fclose(r.file);
    return status;
}
