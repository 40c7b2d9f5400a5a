#include "common/standard_output.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/fail.h"

int standard_output_end(const char *tool, int exit_status) {
    errno = 0;
    const int flushed = fflush(stdout);
    if (flushed == 0 && !ferror(stdout))
        return exit_status;
    tool_say(tool, "standard output cannot be written%s%s", errno ? ": " : "", errno ? strerror(errno) : "");
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
