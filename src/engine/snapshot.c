/* snapshot.c - a session in a file: its parameters, its timeline (tokens, pictures, keys and values, gates) and its
 * logits, to go on later with the same model.
 *
 * The file is a header of fixed size, the session's own numbers, the timeline, the logits, and at last a checksum of
 * all before it. It is written and read on machines of the same byte order; nothing in it is trusted: every count is
 * checked against the model and the file's size before it is used. One function names what is written and what is read.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/output.h"
#include "engine/identity.h"
#include "engine/session.h"

static const char magic[8] = "TROLSES2";
enum { BYTE_ORDER_MARK = 0x01020304 };

typedef struct snapshot_header {
    char magic[8];
    uint32_t byte_order, header_bytes;
    unsigned char model[IDENTITY_BYTES];
    int32_t context_size, traversal, cache_type, keep_pass2, keep_gates;
    float traversal_skip;
} snapshot_header;

/* FNV-1a, byte by byte, so that it does not depend on how the bytes are cut. */
static uint64_t hash_more(uint64_t hash, const void *bytes, size_t n_bytes) {
    const unsigned char *b = bytes;
    for (size_t i = 0; i < n_bytes; i++)
        hash = (hash ^ b[i]) * 1099511628211ull;
    return hash;
}

static const uint64_t hash_start = 14695981039346656037ull;

/* All that follows the header but the checksum, either way. */
static trol_status exchange_session(trol_session *s, exchange *e) {
    for (size_t i = 0; i < session_n_numbers; i++)
        TRY(e->bytes(e, (char *)s + session_numbers[i].offset, session_numbers[i].n_bytes));
    TRY(timeline_exchange(&s->timeline, e, (size_t)s->params.context_size));
    if (s->has_logits)
        TRY(e->bytes(e, s->logits, (size_t)s->model->config.decoder.vocab_size * sizeof *s->logits));
    return TROL_OK;
}

/* ---- writing --------------------------------------------------------------------------------- */

typedef struct writer {
    exchange exchange; /* first: it is handed around as the whole */
    output out;
    uint64_t hash;
} writer;

static trol_status put(exchange *e, void *bytes, size_t n_bytes) {
    writer *w = (writer *)e;
    w->hash = hash_more(w->hash, bytes, n_bytes);
    return output_write(&w->out, bytes, n_bytes, e->error);
}

static trol_status put_session(writer *w, const trol_session *s) {
    snapshot_header h = {.byte_order = BYTE_ORDER_MARK,
                         .header_bytes = sizeof h,
                         .context_size = s->params.context_size,
                         .traversal = (int32_t)s->params.traversal,
                         .cache_type = (int32_t)s->params.cache_type,
                         .keep_pass2 = s->params.keep_pass2 != 0,
                         .keep_gates = s->params.keep_gates != 0,
                         .traversal_skip = s->params.traversal_skip};
    memcpy(h.magic, magic, sizeof magic);
    TRY(identity_of_model(s->model, h.model, w->exchange.error));
    TRY(put(&w->exchange, &h, sizeof h));
    TRY(exchange_session((trol_session *)s, &w->exchange)); /* only read when it is written out */
    uint64_t hash = w->hash;
    return put(&w->exchange, &hash, sizeof hash);
}

trol_status trol_session_save(const trol_session *s, const char *path, trol_error *error) {
    TRY(session_check(s, "trol_session_save", error));
    if (!path || !*path)
        return fail(error, TROL_ERROR_ARGUMENT, "trol_session_save: the path is NULL or empty");
    if (s->in_prompt)
        return fail(error, TROL_ERROR_STATE, "trol_session_save: the prompt has not ended");
    writer w = {.exchange = {.path = path, .error = error, .bytes = put}, .hash = hash_start};
    TRY(output_open(path, &w.out, error));
    trol_status status = put_session(&w, s);
    if (status == TROL_OK)
        return output_commit(&w.out, error);
    output_discard(&w.out);
    return status;
}

/* ---- reading --------------------------------------------------------------------------------- */

typedef struct reader {
    exchange exchange; /* first, as in writer */
    FILE *file;
    uint64_t hash;
} reader;

static trol_status get(exchange *e, void *bytes, size_t n_bytes) {
    reader *r = (reader *)e;
    if (e->left < n_bytes)
        return fail(e->error, TROL_ERROR_FORMAT,
                    "%s: the file is cut short, it has %llu bytes less than its header says", e->path,
                    (unsigned long long)(n_bytes - e->left));
    if (n_bytes > 0 && fread(bytes, 1, n_bytes, r->file) != n_bytes)
        return fail(e->error, TROL_ERROR_IO, "%s: the file cannot be read: %s", e->path, strerror(errno));
    r->hash = hash_more(r->hash, bytes, n_bytes);
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

static trol_status get_session(reader *r, trol_session *s) {
    exchange *e = &r->exchange;
    uint64_t found;
    TRY(exchange_session(s, e));
    const uint64_t expected = r->hash;
    TRY(get(e, &found, sizeof found));
    if (found != expected || e->left != 0)
        return fail(e->error, TROL_ERROR_FORMAT, "%s: the file is damaged: its checksum differs", e->path);
    return check_numbers(e, s);
}

static trol_status read_session(reader *r, trol_model *model, trol_session **session) {
    exchange *e = &r->exchange;
    snapshot_header h;
    TRY(get(e, &h, sizeof h));
    TRY(check_header(e, model, &h));
    trol_session_params params;
    trol_session_params_init(&params);
    params.context_size = h.context_size;
    params.traversal = (trol_traversal)h.traversal;
    params.cache_type = (trol_cache_type)h.cache_type;
    params.keep_pass2 = h.keep_pass2;
    params.keep_gates = h.keep_gates;
    params.traversal_skip = h.traversal_skip;
    trol_status status = trol_session_new(model, &params, session, e->error);
    if (status == TROL_OK)
        status = get_session(r, *session);
    if (status != TROL_OK) {
        trol_session_free(*session);
        *session = NULL;
    }
    /* Parameters and tokens that no session would take are the file's fault here. */
    return status == TROL_ERROR_ARGUMENT ? fail_prefix(e->error, TROL_ERROR_FORMAT, e->path) : status;
}

trol_status trol_session_load(trol_model *model, const char *path, trol_session **session, trol_error *error) {
    if (!session)
        return fail(error, TROL_ERROR_ARGUMENT, "trol_session_load: the out-pointer is NULL");
    *session = NULL;
    if (!model || !path)
        return fail(error, TROL_ERROR_ARGUMENT, "trol_session_load: the model or the path is NULL");
    reader r = {.exchange = {.reading = true, .path = path, .error = error, .bytes = get},
                .file = fopen(path, "rb"),
                .hash = hash_start};
    struct stat info;
    if (!r.file || fstat(fileno(r.file), &info) != 0 || !S_ISREG(info.st_mode)) {
        trol_status status = fail(error, TROL_ERROR_IO, "%s: the file cannot be read: %s", path,
                                  r.file ? "it is not a regular file" : strerror(errno));
        if (r.file)
            fclose(r.file);
        return status;
    }
    r.exchange.left = (uint64_t)info.st_size;
    trol_status status = read_session(&r, model, session);
    fclose(r.file);
    return status;
}
