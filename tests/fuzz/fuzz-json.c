/* fuzz-json.c - any bytes as JSON: refused with a sentence, or a tree that prints and parses again. */
#include <stdlib.h>
#include <string.h>

#include "format/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes) {
    trol_error error = {0};
    cJSON *json, *again;
    if (json_parse((const char *)bytes, n_bytes, "fuzz", &json, &error) != TROL_OK) {
        if (error.message[0] == '\0' || json)
            abort();
        return 0;
    }
    int64_t integer;
    json_integer(json, "fuzz", "n", -5, 5, &integer, &error);
    char *text = cJSON_PrintUnformatted(json);
    /* Numbers past the doubles print as null, so only the form is compared. */
    if (!text || json_parse(text, strlen(text), "again", &again, &error) != TROL_OK)
        abort();
    cJSON_Delete(again);
    cJSON_free(text);
    cJSON_Delete(json);
    return 0;
}
