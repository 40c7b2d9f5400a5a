/* sentencepiece_model.c - a strict, bounded reader of the protobuf wire format, and the four messages of a model file
 * that matter: ModelProto, SentencePiece, TrainerSpec and NormalizerSpec. Other fields do not affect tokenizing with a
 * finished model and are skipped. */
#include "format/sentencepiece_model.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/float16.h"
#include "base/memory.h"
#include "base/utf8.h"

/* ---- the wire format ------------------------------------------------------------------------- */

enum wire_type { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2, WIRE_FIXED32 = 5 };

/* A message that is being read: bytes[at .. end-1] of the file are left. */
typedef struct message {
    const uint8_t *bytes; /* of the whole file */
    size_t at, end;
    const char *file, *name;
} message;

typedef struct field {
    uint32_t number;
    uint32_t wire;
    uint64_t integer;   /* WIRE_VARINT, WIRE_FIXED64, WIRE_FIXED32 */
    size_t begin, size; /* WIRE_BYTES: the contents' place in the file */
} field;

static trol_status broken(const message *m, const char *problem, trol_error *error) {
    return fail(error, TROL_ERROR_FORMAT, "%s: byte %zu, in %s: %s", m->file, m->at, m->name, problem);
}

static trol_status read_varint(message *m, uint64_t *value, trol_error *error) {
    *value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        if (m->at == m->end)
            return broken(m, "it ends within a number", error);
        uint8_t byte = m->bytes[m->at++];
        if (shift == 63 && byte > 1)
            return broken(m, "a number is longer than 64 bits", error);
        *value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80)
            return TROL_OK;
    }
    return broken(m, "a number is longer than 64 bits", error);
}

static trol_status read_fixed(message *m, size_t size, uint64_t *value, trol_error *error) {
    if (m->end - m->at < size)
        return broken(m, "it ends within a number", error);
    *value = 0;
    for (size_t i = 0; i < size; i++)
        *value |= (uint64_t)m->bytes[m->at++] << 8 * i;
    return TROL_OK;
}

static trol_status read_field(message *m, field *f, trol_error *error) {
    uint64_t key;
    *f = (field){0};
    TRY(read_varint(m, &key, error));
    f->number = (uint32_t)(key >> 3);
    f->wire = key & 7;
    if (key >> 3 == 0 || key >> 3 > 0x1fffffff)
        return broken(m, "a field number is out of range", error);
    switch (f->wire) {
    case WIRE_VARINT:
        return read_varint(m, &f->integer, error);
    case WIRE_FIXED64:
        return read_fixed(m, 8, &f->integer, error);
    case WIRE_FIXED32:
        return read_fixed(m, 4, &f->integer, error);
    case WIRE_BYTES: {
        uint64_t size;
        TRY(read_varint(m, &size, error));
        if (size > m->end - m->at)
            return broken(m, "a field is longer than what is left", error);
        f->begin = m->at;
        f->size = (size_t)size;
        m->at += f->size;
        return TROL_OK;
    }
    default:
        return broken(m, "a field has an unknown wire type", error);
    }
}

static trol_status expect_wire(const message *m, const field *f, uint32_t wire, trol_error *error) {
    if (f->wire == wire)
        return TROL_OK;
    return fail(error, TROL_ERROR_FORMAT,
                "%s: before byte %zu, in %s: field %" PRIu32 " has wire type %" PRIu32 ", expected %" PRIu32, m->file,
                m->at, m->name, f->number, f->wire, wire);
}

static message inner_message(const message *outer, const field *f, const char *name) {
    return (message){outer->bytes, f->begin, f->begin + f->size, outer->file, name};
}

/* ---- the messages ---------------------------------------------------------------------------- */

static trol_status check_piece(const message *m, const sentencepiece *piece, size_t id, uint64_t type,
                               trol_error *error) {
    if (!piece->text || piece->n_bytes == 0)
        return fail(error, TROL_ERROR_FORMAT, "%s: piece %zu has no text", m->file, id);
    size_t valid = utf8_valid_prefix(piece->text, piece->n_bytes);
    if (valid != piece->n_bytes)
        return fail(error, TROL_ERROR_FORMAT, "%s: the text of piece %zu is not valid UTF-8 from its byte %zu on",
                    m->file, id, valid);
    if (!isfinite(piece->score))
        return fail(error, TROL_ERROR_FORMAT, "%s: the score of piece %zu is %f, expected a finite number", m->file, id,
                    (double)piece->score);
    if (type < PIECE_NORMAL || type > PIECE_BYTE)
        return fail(error, TROL_ERROR_FORMAT, "%s: piece %zu is of type %" PRIu64 ", expected 1 to 6", m->file, id,
                    type);
    return TROL_OK;
}

static trol_status read_piece(message m, size_t id, sentencepiece *piece, trol_error *error) {
    *piece = (sentencepiece){0};
    uint64_t type = PIECE_NORMAL;
    while (m.at < m.end) {
        field f;
        TRY(read_field(&m, &f, error));
        if (f.number == 1) {
            TRY(expect_wire(&m, &f, WIRE_BYTES, error));
            if (f.size > PIECE_MAX_BYTES)
                return fail(error, TROL_ERROR_UNSUPPORTED,
                            "%s: the text of piece %zu has %zu bytes, expected at most %d", m.file, id, f.size,
                            PIECE_MAX_BYTES);
            piece->text = (const char *)m.bytes + f.begin;
            piece->n_bytes = (uint32_t)f.size;
        } else if (f.number == 2) {
            TRY(expect_wire(&m, &f, WIRE_FIXED32, error));
            piece->score = float_from_bits((uint32_t)f.integer);
        } else if (f.number == 3) {
            TRY(expect_wire(&m, &f, WIRE_VARINT, error));
            type = f.integer;
        }
    }
    TRY(check_piece(&m, piece, id, type, error));
    piece->type = (piece_type)type;
    return TROL_OK;
}

/* What the file holds besides its pieces; an absent field has SentencePiece's default. */
typedef struct model_options {
    uint64_t model_type;
    bool byte_fallback, whitespace_as_suffix;
    bool dummy_prefix, remove_extra_whitespaces, escape_whitespaces;
    char normalizer[32]; /* its name, cut */
    bool has_charsmap;   /* the normalizer or the denormalizer rewrites characters */
} model_options;

static trol_status read_trainer_spec(message m, model_options *options, trol_error *error) {
    while (m.at < m.end) {
        field f;
        TRY(read_field(&m, &f, error));
        if (f.number != 3 && f.number != 24 && f.number != 35)
            continue;
        TRY(expect_wire(&m, &f, WIRE_VARINT, error));
        if (f.number == 3)
            options->model_type = f.integer;
        else if (f.number == 24)
            options->whitespace_as_suffix = f.integer != 0;
        else
            options->byte_fallback = f.integer != 0;
    }
    return TROL_OK;
}

static trol_status read_normalizer_spec(message m, model_options *options, trol_error *error) {
    while (m.at < m.end) {
        field f;
        TRY(read_field(&m, &f, error));
        if (f.number == 1) {
            TRY(expect_wire(&m, &f, WIRE_BYTES, error));
            size_t kept = f.size < sizeof options->normalizer - 1 ? f.size : sizeof options->normalizer - 1;
            memcpy(options->normalizer, m.bytes + f.begin, kept);
            options->normalizer[kept] = '\0';
        } else if (f.number == 2) {
            TRY(expect_wire(&m, &f, WIRE_BYTES, error));
            options->has_charsmap |= f.size > 0;
        } else if (f.number >= 3 && f.number <= 5) {
            TRY(expect_wire(&m, &f, WIRE_VARINT, error));
            bool *option = f.number == 3   ? &options->dummy_prefix
                           : f.number == 4 ? &options->remove_extra_whitespaces
                                           : &options->escape_whitespaces;
            *option = f.integer != 0;
        }
    }
    return TROL_OK;
}

/* Of the denormalizer it only matters whether it rewrites characters. */
static trol_status read_denormalizer_spec(message m, model_options *options, trol_error *error) {
    model_options ignored = {0};
    TRY(read_normalizer_spec(m, &ignored, error));
    options->has_charsmap |= ignored.has_charsmap;
    return TROL_OK;
}

static trol_status check_options(const char *file, const model_options *options, trol_error *error) {
    static const char *const model_types[] = {"0", "1 (unigram)", "2 (BPE)", "3 (word)", "4 (char)"};
    if (options->model_type != 2)
        return fail(error, TROL_ERROR_UNSUPPORTED, "%s: model_type is %s, expected 2 (BPE)", file,
                    options->model_type < 5 ? model_types[options->model_type] : "unknown");
    if (!options->byte_fallback)
        return fail(error, TROL_ERROR_UNSUPPORTED, "%s: byte_fallback is false, expected true", file);
    if (options->whitespace_as_suffix)
        return fail(error, TROL_ERROR_UNSUPPORTED, "%s: treat_whitespace_as_suffix is true, expected false", file);
    if (options->normalizer[0] && strcmp(options->normalizer, "identity") != 0)
        return fail(error, TROL_ERROR_UNSUPPORTED, "%s: the normalizer is \"%s\", expected \"identity\"", file,
                    options->normalizer);
    if (options->has_charsmap)
        return fail(error, TROL_ERROR_UNSUPPORTED, "%s: the normalizer has a precompiled_charsmap, expected none",
                    file);
    if (options->remove_extra_whitespaces)
        return fail(error, TROL_ERROR_UNSUPPORTED, "%s: remove_extra_whitespaces is true, expected false", file);
    if (!options->escape_whitespaces)
        return fail(error, TROL_ERROR_UNSUPPORTED, "%s: escape_whitespaces is false, expected true", file);
    return TROL_OK;
}

static trol_status read_model(message *m, sentencepiece_model *model, model_options *options, trol_error *error) {
    void *pieces = NULL;
    size_t capacity = 0;
    trol_status status = TROL_OK;
    while (m->at < m->end) {
        field f;
        TRY_GOTO(read_field(m, &f, error), done);
        if (f.number != 1 && f.number != 2 && f.number != 3 && f.number != 5)
            continue;
        TRY_GOTO(expect_wire(m, &f, WIRE_BYTES, error), done);
        if (f.number == 2) {
            TRY_GOTO(read_trainer_spec(inner_message(m, &f, "trainer_spec"), options, error), done);
        } else if (f.number == 3) {
            TRY_GOTO(read_normalizer_spec(inner_message(m, &f, "normalizer_spec"), options, error), done);
        } else if (f.number == 5) {
            TRY_GOTO(read_denormalizer_spec(inner_message(m, &f, "denormalizer_spec"), options, error), done);
        } else {
            if (model->n_pieces == PIECE_MAX_COUNT) {
                status = fail(error, TROL_ERROR_UNSUPPORTED, "%s has more than %d pieces", m->file, PIECE_MAX_COUNT);
                goto done;
            }
            TRY_GOTO(memory_grow(&pieces, &capacity, model->n_pieces + 1, sizeof(sentencepiece), m->file, error), done);
            TRY_GOTO(read_piece(inner_message(m, &f, "a piece"), model->n_pieces,
                                &((sentencepiece *)pieces)[model->n_pieces], error),
                     done);
            model->n_pieces++;
        }
    }
done:
    model->pieces = pieces;
    return status;
}

trol_status sentencepiece_model_parse(const char *bytes, size_t n_bytes, const char *file, sentencepiece_model *model,
                                      trol_error *error) {
    model_options options = {
        .model_type = 1, .dummy_prefix = true, .remove_extra_whitespaces = true, .escape_whitespaces = true};
    message m = {(const uint8_t *)bytes, 0, n_bytes, file, "the model"};
    *model = (sentencepiece_model){0};
    trol_status status = read_model(&m, model, &options, error);
    if (status == TROL_OK && model->n_pieces == 0)
        status = fail(error, TROL_ERROR_FORMAT, "%s has no pieces", file);
    if (status == TROL_OK)
        status = check_options(file, &options, error);
    model->add_dummy_prefix = options.dummy_prefix;
    if (status != TROL_OK)
        sentencepiece_model_free(model);
    return status;
}

void sentencepiece_model_free(sentencepiece_model *model) {
    memory_free(model->pieces);
    *model = (sentencepiece_model){0};
}
