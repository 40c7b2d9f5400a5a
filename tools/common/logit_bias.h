/* logit_bias.h - the values of --logit-bias. */
#ifndef TOOLS_LOGIT_BIAS_H
#define TOOLS_LOGIT_BIAS_H

#include "common/arguments.h"

/* Each text is "TOKEN+X" or "TOKEN-X", X a number or "inf" (with "-": the token is never chosen). bias has room for
 * all. false, with the text named in *error, for anything else. */
bool logit_bias_read(const argument_texts *texts, trol_logit_bias *bias, trol_error *error);

#endif
