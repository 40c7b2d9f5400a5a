#include "common/logprobs_file.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/fail.h"
#include "common/json_text.h"
#include "common/output_file.h"

struct logprobs_file {
    output_file out;
    const trol_model *model;
    bool has_tokenizer;
};

trol_status logprobs_file_open(const char *path, const trol_model *model, bool has_tokenizer, logprobs_file **result,
                               trol_error *error) {
    *result = NULL;
    logprobs_file *file = calloc(1, sizeof *file);
    if (!file)
        return fail(error, TROL_ERROR_MEMORY, "out of memory");
    file->model = model;
    file->has_tokenizer = has_tokenizer;
    trol_status status = output_file_open(path, &file->out, error);
    if (status != TROL_OK) {
        free(file);
        return status;
    }
    *result = file;
    return TROL_OK;
}

/* "token": ..., "text": ..., "bytes": ..., "logprob": ... */
static trol_status write_token(const logprobs_file *file, int32_t token, float logprob, trol_error *error) {
    FILE *stream = file->out.stream;
    fprintf(stream, "\"token\": %" PRId32, token);
    if (file->has_tokenizer) {
        char *bytes;
        size_t n_bytes;
        trol_status status = trol_token_bytes(file->model, token, &bytes, &n_bytes, error);
        if (status != TROL_OK)
            return status;
        fputs(", \"text\": ", stream);
        json_text_write(stream, bytes, n_bytes);
        fputs(", \"bytes\": [", stream);
        for (size_t i = 0; i < n_bytes; i++)
            fprintf(stream, i ? ", %d" : "%d", (unsigned char)bytes[i]);
        fputs("]", stream);
        trol_free(bytes);
    }
    if (isfinite(logprob))
        fprintf(stream, ", \"logprob\": %.9g", (double)logprob);
    else
        fputs(", \"logprob\": null", stream);
    return TROL_OK;
}

trol_status logprobs_file_append(logprobs_file *file, const trol_token_info *info, trol_error *error) {
    FILE *stream = file->out.stream;
    fprintf(stream, "{\"position\": %" PRId64 ", ", info->position);
    trol_status status = write_token(file, info->token, info->logprob, error);
    fputs(", \"top\": [", stream);
    for (int32_t i = 0; i < info->n_top && info->top[i].token >= 0 && status == TROL_OK; i++) {
        fputs(i ? ", {" : "{", stream);
        status = write_token(file, info->top[i].token, info->top[i].logprob, error);
        fputs("}", stream);
    }
    fputs("]}\n", stream);
    if (status == TROL_OK && ferror(stream))
        status = output_file_failed(&file->out, error);
    return status;
}

trol_status logprobs_file_close(logprobs_file *file, bool keep, trol_error *error) {
    if (!file)
        return TROL_OK;
    trol_status status = output_file_close(&file->out, keep, error);
    free(file);
    return status;
}
