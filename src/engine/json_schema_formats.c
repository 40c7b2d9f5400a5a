/* json_schema_formats.c - the formats of strings, as patterns. Those of JSON Schema are what its standard refers to, in
 * the narrower reading where readers differ; the others are those that pydantic and OpenAPI name. */
#include <math.h>
#include <string.h>

#include "engine/json_schema_compiler.h"

/* Dates by the calendar. */
#define YEAR "(?:\\d{3}[1-9]|\\d{2}[1-9]0|\\d[1-9]00|[1-9]000)"
#define LEAP "(?:\\d{2}(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)"
#define DAY                                                                                                            \
    "(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\\d|30)|02-(?:0[1-9]|1\\d|2[0-8]))"
#define DATE "(?:" YEAR "-" DAY "|" LEAP "-02-29)"
#define TIME "(?:[01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(?:\\.\\d{1,9})?(?:Z|[+-](?:[01]\\d|2[0-3]):[0-5]\\d)"
/* ISO 8601: years down to seconds, each at most once, or weeks; no more digits than readers have room for. */
#define DURATION                                                                                                       \
    "P(?:\\d{1,6}W|(?=[\\dT])(?:\\d{1,6}Y)?(?:\\d{1,6}M)?(?:\\d{1,8}D)?"                                               \
    "(?:T(?=\\d)(?:\\d{1,9}H)?(?:\\d{1,9}M)?(?:\\d{1,9}(?:\\.\\d{1,9})?S)?)?)"

#define HEX(n)        "[0-9a-fA-F]{" #n "}"
#define UUID(version) HEX(8) "-" HEX(4) "-" version HEX(3) "-[89abAB]" HEX(3) "-" HEX(12)

/* RFC 1123, RFC 5321 (no quoted names; the domain has a dot and does not end in a number), RFC 4291. The 253 characters
 * that a name may have are kept by the number of labels: up to 3 of 63 characters, or up to 8 of 30. */
#define LABEL(middle) "[A-Za-z0-9](?:[A-Za-z0-9-]{0," #middle "}[A-Za-z0-9])?"
#define HOSTNAME      "(?:(?:" LABEL(61) "\\.){0,2}" LABEL(61) "|(?:" LABEL(28) "\\.){0,7}" LABEL(28) ")"
#define TOP(middle)   "[A-Za-z][A-Za-z0-9-]{0," #middle "}[A-Za-z0-9]"
#define DOMAIN        "(?:(?:" LABEL(61) "\\.){1,2}" TOP(61) "|(?:" LABEL(28) "\\.){1,7}" TOP(28) ")"
#define ATOM          "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
#define EMAIL         "(?=[^@]{1,64}@)" ATOM "(?:\\." ATOM ")*@" DOMAIN
#define OCTET         "(?:25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)"
#define IPV4          "(?:" OCTET "\\.){3}" OCTET
#define GROUP         "[0-9a-fA-F]{1,4}"
#define BEFORE(most)  "(?:(?:" GROUP ":){0," #most "}" GROUP ")?::" /* a gap, and up to most + 1 groups before it */
#define AFTER(n)      "(?:" GROUP ":){" #n "}(?:" GROUP ":" GROUP "|" IPV4 ")"
#define IPV6                                                                                                           \
    "(?:" AFTER(6) "|::" AFTER(5) "|" BEFORE(0) AFTER(4) "|" BEFORE(1) AFTER(3) "|" BEFORE(2) AFTER(2) "|" BEFORE(3)   \
        AFTER(1) "|" BEFORE(4) AFTER(0) "|" BEFORE(5) GROUP "|" BEFORE(6) ")"

/* RFC 3986; a host is a name or an IPv4 address; http and https have one (RFC 9110). */
#define UNRESERVED "-A-Za-z0-9._~!$&'()*+,;="
#define PERCENT    "%[0-9a-fA-F]{2}"
#define PATH       "(?:[" UNRESERVED ":@/]|" PERCENT ")*"
#define AUTHORITY  "(?:(?:[" UNRESERVED ":]|" PERCENT ")*@)?(?:[" UNRESERVED "]|" PERCENT ")*(?::\\d*)?"
#define URI                                                                                                            \
    "(?!https?:(?:/?(?:[^/]|$)|//(?:[^@/?#]*@)?(?:[:/?#]|$)))[A-Za-z][A-Za-z0-9+.-]*:(?://" AUTHORITY "(?:/" PATH      \
    ")?|(?!//)" PATH ")(?:\\?(?:[" UNRESERVED ":@/?]|" PERCENT ")*)?(?:#(?:[" UNRESERVED ":@/?]|" PERCENT ")*)?"

#define POINTER         "(?:/(?:[^~/]|~[01])*)*"
#define BASE64(letters) "(?:[" letters "]{4})*(?:[" letters "]{2}==|[" letters "]{3}=)?"

/* Simpler forms beside a pattern of the schema's own: the states for their counts would be multiplied by those of the
 * pattern. */
#define PLAIN_HOSTNAME LABEL(61) "(?:\\." LABEL(61) ")*"
#define PLAIN_EMAIL    ATOM "(?:\\." ATOM ")*@(?:[A-Za-z0-9-]+\\.)+[A-Za-z][A-Za-z0-9-]*[A-Za-z0-9]"

typedef struct schema_format {
    const char *name, *pattern;
    bool standard;       /* JSON Schema's own; over others a pattern in the schema takes precedence */
    const char *beside;  /* the pattern beside one of the schema's own; NULL: the same */
    uint32_t max_length; /* beside it; 0: any */
} schema_format;

static const schema_format formats[] = {
    {"date", "^" DATE "$", true, NULL, 0},
    {"time", "^" TIME "$", true, NULL, 0},
    {"date-time", "^" DATE "T" TIME "$", true, NULL, 0},
    {"duration", "^" DURATION "$", true, NULL, 0},
    {"uuid", "^" HEX(8) "-" HEX(4) "-" HEX(4) "-" HEX(4) "-" HEX(12) "$", true, NULL, 0},
    {"email", "^" EMAIL "$", true, "^" PLAIN_EMAIL "$", 0},
    {"hostname", "^" HOSTNAME "$", true, "^" PLAIN_HOSTNAME "$", 253},
    {"ipv4", "^" IPV4 "$", true, NULL, 0},
    {"ipv6", "^" IPV6 "$", true, NULL, 0},
    {"uri", "^" URI "$", true, NULL, 0},
    {"json-pointer", "^" POINTER "$", true, NULL, 0},
    {"relative-json-pointer", "^(?:0|[1-9]\\d{0,8})(?:#|" POINTER ")$", true, NULL, 0},
    {"uuid1", "^" UUID("1") "$", false, NULL, 0},
    {"uuid3", "^" UUID("3") "$", false, NULL, 0},
    {"uuid4", "^" UUID("4") "$", false, NULL, 0},
    {"uuid5", "^" UUID("5") "$", false, NULL, 0},
    {"uuid6", "^" UUID("6") "$", false, NULL, 0},
    {"uuid7", "^" UUID("7") "$", false, NULL, 0},
    {"uuid8", "^" UUID("8") "$", false, NULL, 0},
    {"ipv4interface", "^" IPV4 "(?:/(?:3[0-2]|[12]?\\d))?$", false, NULL, 0},
    {"ipv6interface", "^" IPV6 "(?:/(?:12[0-8]|1[01]\\d|[1-9]?\\d))?$", false, NULL, 0},
    {"ipvanyaddress", "^(?:" IPV4 "|" IPV6 ")$", false, NULL, 0},
    {"ipvanyinterface", "^(?:" IPV4 "(?:/(?:3[0-2]|[12]?\\d))?|" IPV6 "(?:/(?:12[0-8]|1[01]\\d|[1-9]?\\d))?)$", false,
     NULL, 0},
    {"multi-host-uri", "^" URI "$", false, NULL, 0},
    {"byte", "^" BASE64("A-Za-z0-9+/") "$", false, NULL, 0},
    {"base64", "^" BASE64("A-Za-z0-9+/") "$", false, NULL, 0},
    {"base64url", "^" BASE64("A-Za-z0-9_-") "$", false, NULL, 0},
};

/* They name a string's purpose and require nothing of it. */
static const char *const any_text[] = {"binary", "password", "path", "file-path", "directory-path"};

/* Standard, but no pattern describes them. */
static const char *const not_supported[] = {"regex",         "uri-reference", "uri-template", "iri",
                                            "iri-reference", "idn-email",     "idn-hostname"};

static const struct {
    const char *name;
    double smallest, largest;
} number_formats[] = {{"int8", -128, 127},
                      {"uint8", 0, 255},
                      {"int16", -32768, 32767},
                      {"uint16", 0, 65535},
                      {"int32", -2147483648.0, 2147483647.0},
                      {"uint32", 0, 4294967295.0},
                      {"int64", -(double)INFINITY, (double)INFINITY},
                      {"uint64", 0, (double)INFINITY},
                      {"float", -(double)INFINITY, (double)INFINITY},
                      {"double", -(double)INFINITY, (double)INFINITY}};

static const schema_format *find_format(const char *name) {
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (strcmp(formats[i].name, name) == 0)
            return &formats[i];
    return NULL;
}

static size_t find_number_format(const char *name) {
    size_t i = 0;
    while (i < sizeof number_formats / sizeof *number_formats && strcmp(number_formats[i].name, name) != 0)
        i++;
    return i;
}

trol_status schema_format_rules(const schema_compiler *c, const cJSON *format, bool has_pattern, const char **pattern,
                                uint32_t *max_length) {
    *pattern = NULL;
    *max_length = UINT32_MAX;
    if (!cJSON_IsString(format))
        return schema_malformed(c, format, "a string is expected");
    const schema_format *known = find_format(format->valuestring);
    const bool open = IS_AMONG(format->valuestring, any_text) ||
                      find_number_format(format->valuestring) < sizeof number_formats / sizeof *number_formats;
    if (known && (known->standard || !has_pattern)) {
        *pattern = has_pattern && known->beside ? known->beside : known->pattern;
        if (has_pattern && known->max_length)
            *max_length = known->max_length;
    } else if (!known && !open && (!has_pattern || IS_AMONG(format->valuestring, not_supported))) {
        return schema_unsupported(c, format,
                                  "this format is not supported; date, time, date-time, duration, uuid, email, "
                                  "hostname, ipv4, ipv6, uri and json-pointer are");
    }
    return TROL_OK;
}

trol_status schema_number_format(const schema_compiler *c, const cJSON *format, number_range *range) {
    if (!cJSON_IsString(format))
        return schema_malformed(c, format, "a string is expected");
    const size_t i = find_number_format(format->valuestring);
    if (i == sizeof number_formats / sizeof *number_formats)
        return find_format(format->valuestring) || IS_AMONG(format->valuestring, any_text) ||
                       IS_AMONG(format->valuestring, not_supported)
                   ? TROL_OK /* a format of strings requires nothing of numbers */
                   : schema_unsupported(c, format, "this format of numbers is not supported");
    range->smallest = fmax(range->smallest, number_formats[i].smallest);
    range->largest = fmin(range->largest, number_formats[i].largest);
    return TROL_OK;
}
