/* api_error.h - the answer to a request that fails: an HTTP status and the OpenAI API's error object. */
#ifndef SERVER_API_ERROR_H
#define SERVER_API_ERROR_H

#include "server/buffer.h"
#include "trol.h"

typedef struct api_error {
    int status;         /* HTTP; 0: there is no error */
    int retry_after;    /* seconds; 0: no such header */
    const char *code;   /* static, may be NULL */
    char param[128];    /* the field at fault, or empty */
    char message[1020]; /* one sentence */
} api_error;

/* Writes the error, the sentence made printable; returns false. param and code may be NULL. */
bool api_fail(api_error *error, int status, const char *param, const char *code, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
/* From an error of the library: 400 or, for content that cannot be read, 422 if the request caused it, else 500 or
 * 503. */
bool api_fail_library(api_error *error, const char *param, const trol_error *cause);
bool api_fail_memory(api_error *error);
/* A model that this server, which has `own`, does not have. */
bool api_fail_model(api_error *error, const char *name, const char *own);

/* {"error": {"message", "type", "param", "code"}} */
void api_error_json(const api_error *error, buffer *out);

#endif
