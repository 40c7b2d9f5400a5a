#include "common/standard_output.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/fail.h"

/* errno of the first failed write to standard output; 0: unknown. */
static int reason;

bool standard_output_line(const char *text) {
    if (puts(text) >= 0 && fflush(stdout) == 0)
        return true;
    reason = reason ? reason : errno;
    return false;
}

int standard_output_end(const char *tool, int exit_status) {
    errno = 0;
    if (fflush(stdout) == 0 && !ferror(stdout))
        return exit_status;
    reason = reason ? reason : errno;
    tool_say(tool, "standard output cannot be written%s%s", reason ? ": " : "", reason ? strerror(reason) : "");
    return 1;
}

int standard_output_text(const char *tool, const char *text) {
    fputs(text, stdout);
    return standard_output_end(tool, 0);
}

int standard_output_version(const char *tool) {
    printf("%s %s\n", tool, trol_version());
    return standard_output_end(tool, 0);
}
