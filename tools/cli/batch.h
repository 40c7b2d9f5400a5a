/* batch.h - trol-cli --batch: a file of questions, a JSON object a line, to a file of answers, a line each.
 *
 * The requests go through the server's engine (tools/server/engine.h): several are answered as one batch, prompts with
 * the same beginning share what was computed, and the next pictures are encoded beside the answers. */
#ifndef CLI_BATCH_H
#define CLI_BATCH_H

#include "cli/cli.h"

/* r's model is loaded, with r->threads. */
trol_status batch_run(run *r);

#endif
