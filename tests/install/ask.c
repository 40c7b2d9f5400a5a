/* The README's program, built against the installed library: ask MODEL PICTURE QUESTION. */
#include <stdio.h>
#include <trol.h>

static int print(void *user, const char *text) { return fputs(text, user) < 0; }

int main(int argc, char **argv) {
    trol_model *model = NULL;
    trol_image *image = NULL;
    trol_session *session = NULL;
    trol_error error = {0};
    int ok = argc == 4 && !trol_model_load(argv[1], NULL, &model, &error) &&
             !trol_image_load_file(argv[2], NULL, &image, &error) && !trol_session_new(model, NULL, &session, &error) &&
             !trol_session_ask(session, argv[3], (const trol_image *const *)&image, 1, &error) &&
             !trol_generate(session, NULL, print, stdout, NULL, &error);
    if (!ok)
        fprintf(stderr, "%s\n", error.message);
    trol_session_free(session);
    trol_image_free(image);
    trol_model_free(model);
    return !ok;
}
