/* constraint.c - --json-schema, --json and --grammar: what the answer must be. */
#include "cli/constraint.h"

#include <string.h>

#include "common/fail.h"
#include "common/input_file.h"

enum { MAX_CONSTRAINT_BYTES = 1 << 20 };

const char *constraint_contradiction(const options *o) {
    if ((o->json_schema != NULL) + (o->grammar != NULL) + o->json > 1)
        return "only one of --json-schema, --json and --grammar can be given";
    return NULL;
}

trol_status constraint_make(run *r) {
    const options *o = r->chosen;
    const char *path = o->json_schema ? o->json_schema : o->grammar;
    if (o->json)
        return trol_constraint_new_json(r->model, &r->constraint, r->error);
    if (!path)
        return TROL_OK;
    trol_status status =
        input_file_read(path, MAX_CONSTRAINT_BYTES, &r->constraint_text, &r->n_constraint_bytes, r->error);
    if (status != TROL_OK)
        return status;
    if (r->n_constraint_bytes >= 3 && memcmp(r->constraint_text, "\xef\xbb\xbf", 3) == 0) { /* a byte-order mark */
        r->n_constraint_bytes -= 3;
        memmove(r->constraint_text, r->constraint_text + 3, r->n_constraint_bytes + 1);
    }
    const char *text = r->constraint_text;
    const size_t n = r->n_constraint_bytes;
    trol_error inner = {TROL_OK, ""};
    status = o->grammar ? trol_constraint_new_gbnf(r->model, text, n, &r->constraint, &inner)
                        : trol_constraint_new_json_schema(r->model, text, n, &r->constraint, &inner);
    return status == TROL_OK ? status : fail(r->error, status, "%s: %s", path, inner.message);
}
