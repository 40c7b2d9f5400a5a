/* snapshot.c - a session in a file: its parameters, its timeline (tokens, pictures, keys and values, gates), its logits
 * and a sampler, to go on later with the same model.
 *
 * The file is a header of fixed size, the session's own numbers, the timeline, the logits, a sampler, and at last a
 * checksum of all before it. It is written and read on machines of the same byte order; nothing in it is trusted: every
 * count is checked against the model and the file's size before it is used. One function names what is written and what
 * is read.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/output.h"
#include "engine/identity.h"
#include "engine/params.h"
#include "engine/sampler.h"
#include "engine/session.h"

static const char magic[8] = "TROLSES4";
enum { BYTE_ORDER_MARK = 0x01020304 };

typedef struct snapshot_header {
    char magic[8];
    uint32_t byte_order, header_bytes;
    unsigned char model[IDENTITY_BYTES];
    char arithmetic[ARITHMETIC_BYTES]; /* a NUL and zeros at its end */
    int32_t context_size, traversal, cache_type, keep_pass2, keep_gates;
    float traversal_skip;
} snapshot_header;

/* All that follows the header but the checksum, either way. */
static trol_status exchange_session(trol_session *s, trol_sampler **sampler, exchange *e) {
    for (size_t i = 0; i < session_n_numbers; i++)
        TRY(e->bytes(e, (char *)s + session_numbers[i].offset, session_numbers[i].n_bytes));
    TRY(timeline_exchange(&s->timeline, e, (size_t)s->params.context_size));
    if (s->has_logits)
        TRY(e->bytes(e, s->logits, (size_t)s->model->config.decoder.vocab_size * sizeof *s->logits));
    return sampler_exchange(sampler, e);
}

static trol_status start_checksum(XXH3_state_t **hash, trol_error *error) {
    *hash = XXH3_createState();
    if (!*hash)
        return fail_memory(error, 0, "a file's checksum");
    (void)XXH3_64bits_reset(*hash);
    return TROL_OK;
}

/* ---- writing --------------------------------------------------------------------------------- */

typedef struct writer {
    exchange exchange; /* first: it is handed around as the whole */
    output out;
    XXH3_state_t *hash;
} writer;

static trol_status put(exchange *e, void *bytes, size_t n_bytes) {
    writer *w = (writer *)e;
    if (n_bytes > 0)
        (void)XXH3_64bits_update(w->hash, bytes, n_bytes);
    return output_write(&w->out, bytes, n_bytes, e->error);
}

static trol_status put_session(writer *w, const trol_session *s, const trol_sampler *sampler) {
    snapshot_header h = {.byte_order = BYTE_ORDER_MARK,
                         .header_bytes = sizeof h,
                         .context_size = s->params.context_size,
                         .traversal = (int32_t)s->params.traversal,
                         .cache_type = (int32_t)s->params.cache_type,
                         .keep_pass2 = s->params.keep_pass2 != 0,
                         .keep_gates = s->params.keep_gates != 0,
                         .traversal_skip = s->params.traversal_skip};
    memcpy(h.magic, magic, sizeof magic);
    trol_sampler *saved = (trol_sampler *)sampler; /* it and the session are only read when they are written out */
    TRY(identity_of_model(s->model, h.model, w->exchange.error));
    identity_of_arithmetic(s->model, h.arithmetic);
    TRY(put(&w->exchange, &h, sizeof h));
    TRY(exchange_session((trol_session *)s, &saved, &w->exchange));
    uint64_t hash = XXH3_64bits_digest(w->hash);
    return put(&w->exchange, &hash, sizeof hash);
}

trol_status trol_session_save(const trol_session *s, const trol_sampler *sampler, const char *path, trol_error *error) {
    TRY(session_check(s, "trol_session_save", error));
    if (!path || !*path)
        return fail(error, TROL_ERROR_ARGUMENT, "trol_session_save: the path is NULL or empty");
    if (s->in_prompt)
        return fail(error, TROL_ERROR_STATE, "trol_session_save: the prompt has not ended");
    writer w = {.exchange = {.path = path, .error = error, .bytes = put}};
    TRY(start_checksum(&w.hash, error));
    trol_status status = output_open(path, &w.out, error);
    if (status == TROL_OK) {
        status = put_session(&w, s, sampler);
        if (status == TROL_OK)
            status = output_commit(&w.out, error);
        else
            output_discard(&w.out);
    }
    (void)XXH3_freeState(w.hash);
    return status;
}

/* ---- reading --------------------------------------------------------------------------------- */

typedef struct reader {
    exchange exchange; /* first, as in writer */
    FILE *file;
    XXH3_state_t *hash;
} reader;

static trol_status get(exchange *e, void *bytes, size_t n_bytes) {
    reader *r = (reader *)e;
    if (e->left < n_bytes)
        return fail(e->error, TROL_ERROR_FORMAT,
                    "%s: the file is cut short, it has %llu bytes less than its header says", e->path,
                    (unsigned long long)(n_bytes - e->left));
    if (n_bytes > 0 && fread(bytes, 1, n_bytes, r->file) != n_bytes)
        return fail(e->error, TROL_ERROR_IO, "%s: the file cannot be read: %s", e->path, strerror(errno));
    if (n_bytes > 0)
        (void)XXH3_64bits_update(r->hash, bytes, n_bytes);
    e->left -= n_bytes;
    return TROL_OK;
}

static trol_status check_header(const exchange *e, const trol_model *model, const snapshot_header *h) {
    unsigned char identity[IDENTITY_BYTES];
    if (memcmp(h->magic, magic, sizeof magic) != 0) {
        if (memcmp(h->magic, magic, sizeof magic - 1) == 0)
            return fail(e->error, TROL_ERROR_UNSUPPORTED,
                        "%s: the session was saved by another version of this library (it begins with %.8s, expected "
                        "%.8s)",
                        e->path, h->magic, magic);
        return fail(e->error, TROL_ERROR_FORMAT, "%s: the file is not a saved session (it does not begin with %.8s)",
                    e->path, magic);
    }
    if (h->byte_order != BYTE_ORDER_MARK || h->header_bytes != sizeof *h)
        return fail(e->error, TROL_ERROR_UNSUPPORTED, "%s: the session was saved on a machine of another kind",
                    e->path);
    char arithmetic[ARITHMETIC_BYTES];
    identity_of_arithmetic(model, arithmetic);
    if (memcmp(h->arithmetic, arithmetic, sizeof arithmetic) != 0)
        return fail(e->error, TROL_ERROR_ARGUMENT,
                    "%s: the session was computed in another way (%.*s) than this model is (%s)", e->path,
                    ARITHMETIC_BYTES - 1, h->arithmetic, arithmetic);
    TRY(identity_of_model(model, identity, e->error));
    if (memcmp(h->model, identity, sizeof identity) != 0)
        return fail(e->error, TROL_ERROR_ARGUMENT, "%s: the session was saved with another model", e->path);
    return TROL_OK;
}

static trol_status check_numbers(const exchange *e, const trol_session *s) {
    if (s->has_logits > 1 || s->is_failed > 1 || s->has_pending > 1 ||
        (s->has_logits && (s->timeline.n_tokens == 0 || s->is_failed)))
        return fail(e->error, TROL_ERROR_FORMAT, "%s: the header's numbers contradict each other", e->path);
    return s->has_pending ? model_check_token(s->model, s->pending_token, e->error) : TROL_OK;
}

static trol_status get_session(reader *r, trol_session *s, trol_sampler **sampler) {
    exchange *e = &r->exchange;
    uint64_t found;
    TRY(exchange_session(s, sampler, e));
    const uint64_t expected = XXH3_64bits_digest(r->hash);
    TRY(get(e, &found, sizeof found));
    if (found != expected || e->left != 0)
        return fail(e->error, TROL_ERROR_FORMAT, "%s: the file is damaged: its checksum differs", e->path);
    return check_numbers(e, s);
}

static const char *cache_name(int32_t type) {
    return type >= 0 && type < KV_TYPES ? kv_name((kv_type)type) : "unknown";
}

/* What the caller's parameters ask for must be what the file holds; the context's size and the callback are his. */
static trol_status check_wanted(const exchange *e, const snapshot_header *h, trol_session_params *p) {
    if (h->traversal != (int32_t)p->traversal || h->cache_type != (int32_t)p->cache_type ||
        h->keep_pass2 != (p->keep_pass2 != 0) || h->keep_gates != (p->keep_gates != 0) ||
        h->traversal_skip != p->traversal_skip)
        return fail(e->error, TROL_ERROR_ARGUMENT,
                    "%s: the session was saved with other parameters: traversal %d, cache_type %s, keep_pass2 %d, "
                    "keep_gates %d, traversal_skip %g, expected %d, %s, %d, %d, %g",
                    e->path, h->traversal, cache_name(h->cache_type), h->keep_pass2, h->keep_gates,
                    (double)h->traversal_skip, (int)p->traversal, cache_name((int32_t)p->cache_type),
                    p->keep_pass2 != 0, p->keep_gates != 0, (double)p->traversal_skip);
    return TROL_OK;
}

static trol_status read_session(reader *r, trol_model *model, const trol_session_params *callers,
                                trol_session **session, trol_sampler **sampler) {
    exchange *e = &r->exchange;
    snapshot_header h;
    TRY(get(e, &h, sizeof h));
    TRY(check_header(e, model, &h));
    trol_session_params params;
    trol_session_params_init(&params);
    TRY(params_copy(&params, sizeof params, callers, "trol_session_params", e->error));
    if (callers) {
        TRY(check_wanted(e, &h, &params));
    } else {
        params.context_size = h.context_size;
        params.traversal = (trol_traversal)h.traversal;
        params.cache_type = (trol_cache_type)h.cache_type;
        params.keep_pass2 = h.keep_pass2;
        params.keep_gates = h.keep_gates;
        params.traversal_skip = h.traversal_skip;
    }
    trol_status status = trol_session_new(model, &params, session, e->error);
    if (status == TROL_OK)
        status = get_session(r, *session, sampler);
    if (status != TROL_OK) {
        trol_session_free(*session);
        trol_sampler_free(*sampler);
        *session = NULL;
        *sampler = NULL;
    }
    /* Parameters and tokens that no session would take are the file's fault here. */
    return status == TROL_ERROR_ARGUMENT ? fail_prefix(e->error, TROL_ERROR_FORMAT, e->path) : status;
}

/* The file open for reading, and how long it is. */
static trol_status open_file(reader *r) {
    exchange *e = &r->exchange;
    struct stat info;
    r->file = fopen(e->path, "rb");
    if (!r->file)
        return fail(e->error, TROL_ERROR_IO, "%s: the file cannot be read: %s", e->path, strerror(errno));
    if (fstat(fileno(r->file), &info) != 0 || !S_ISREG(info.st_mode))
        return fail(e->error, TROL_ERROR_IO, "%s: the file cannot be read: it is not a regular file", e->path);
    e->left = (uint64_t)info.st_size;
    return TROL_OK;
}

trol_status trol_session_load(trol_model *model, const char *path, const trol_session_params *params,
                              trol_session **session, trol_sampler **sampler, trol_error *error) {
    trol_sampler *found = NULL;
    if (sampler)
        *sampler = NULL;
    TRY_OUT(session, "trol_session_load", error);
    if (!model || !path)
        return fail(error, TROL_ERROR_ARGUMENT, "trol_session_load: the model or the path is NULL");
    reader r = {.exchange = {.reading = true, .path = path, .error = error, .bytes = get}};
    trol_status status = start_checksum(&r.hash, error);
    if (status == TROL_OK)
        status = open_file(&r);
    if (status == TROL_OK)
        status = read_session(&r, model, params, session, &found);
    if (r.file)
        fclose(r.file);
    (void)XXH3_freeState(r.hash);
    if (sampler)
        *sampler = found;
    else
        trol_sampler_free(found);
    return status;
}
