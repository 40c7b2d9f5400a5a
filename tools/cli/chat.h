/* chat.h - trol-cli --chat: a conversation at a terminal, or line by line from standard input. */
#ifndef CLI_CHAT_H
#define CLI_CHAT_H

#include "cli/cli.h"

/* Runs until the end of the input. r's model is loaded; session and sampler are created here. */
trol_status chat_run(run *r);

#endif
