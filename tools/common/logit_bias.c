#include "common/logit_bias.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/fail.h"

static bool read_entry(const char *text, trol_logit_bias *entry) {
    char *end;
    errno = 0;
    const long token = strtol(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || errno || token > INT32_MAX || (*end != '+' && *end != '-'))
        return false;
    entry->token = (int32_t)token;
    const char *number = end + 1;
    if (strcmp(end, "-inf") == 0) {
        entry->bias = -INFINITY;
        return true;
    }
    const double value = strtod(number, &end);
    entry->bias = (float)(number[-1] == '-' ? -value : value);
    return strchr(".0123456789", *number) && *number && !*end && isfinite(entry->bias);
}

bool logit_bias_read(const argument_texts *texts, trol_logit_bias *bias, trol_error *error) {
    for (size_t i = 0; i < texts->count; i++)
        if (!read_entry(texts->items[i], &bias[i]))
            return !fail(error, TROL_ERROR_ARGUMENT,
                         "--logit-bias is \"%s\", expected TOKEN+X or TOKEN-X, for example 15043+1.5 or 15043-inf",
                         texts->items[i]);
    return true;
}
