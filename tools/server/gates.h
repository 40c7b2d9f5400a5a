/* gates.h - the traversal's gates of a prompt's image tokens. */
#ifndef SERVER_GATES_H
#define SERVER_GATES_H

#include "server/job.h"

/* Copies them into the job from the session that holds its prompt and keeps gates. */
trol_status gates_copy(job *j, const trol_session *session, const trol_model_info *info, trol_error *error);

#endif
