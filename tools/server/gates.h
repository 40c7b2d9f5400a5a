/* gates.h - the traversal's gates of a prompt's image tokens, collected while the prompt is processed. */
#ifndef SERVER_GATES_H
#define SERVER_GATES_H

#include "server/job.h"

/* Watches the session from now on, for a job that asks for gates and whose tokens are rendered. */
trol_status gates_watch(job *j, trol_session *session, const trol_model_info *info, trol_error *error);
/* The prompt is complete, or failed: nothing is watched any more. */
void gates_end(trol_session *session);

#endif
