/* data_url.h - the bytes in a "data:" URL (RFC 2397), the only kind of URL that is read. */
#ifndef SERVER_DATA_URL_H
#define SERVER_DATA_URL_H

#include <stdint.h>

#include "server/api_error.h"

/* *bytes is allocated. */
bool data_url_read(const char *url, const char *param, uint8_t **bytes, size_t *n_bytes, api_error *error);

#endif
