# cmake -DINPUT=page.html -DOUTPUT=page.c -P embed.cmake: the file's bytes as a C array.
file(READ ${INPUT} bytes HEX)
string(REGEX REPLACE "(..)" "0x\\1," bytes "${bytes}")
string(REGEX REPLACE "(................................................................................)" "\\1\n" bytes "${bytes}")
file(WRITE ${OUTPUT} "/* Made from page.html. */
#include <stddef.h>

extern const unsigned char page_html[];
extern const size_t page_html_bytes;
const unsigned char page_html[] = {
${bytes}
};
const size_t page_html_bytes = sizeof page_html;
")
