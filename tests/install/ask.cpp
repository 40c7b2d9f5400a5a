// The same from C++: the header compiles there, and a failure comes back as a status and a sentence.
#include <cstring>
#include <iostream>
#include <memory>
#include <trol.h>

static_assert(TROL_VERSION_MAJOR >= 0, "trol.h names its version");

static int print(void *, const char *text) {
    std::cout << text;
    return 0;
}

int main(int argc, char **argv) {
    trol_error error{};
    trol_model *none = nullptr;
    if (trol_model_load("/nowhere", nullptr, &none, &error) == TROL_OK || none || !std::strlen(error.message)) {
        std::cerr << "a folder that is not there was loaded\n";
        return 1;
    }
    if (argc != 4)
        return 2;
    trol_model *loaded = nullptr;
    trol_image *decoded = nullptr;
    trol_session *begun = nullptr;
    bool ok = trol_model_load(argv[1], nullptr, &loaded, &error) == TROL_OK;
    std::unique_ptr<trol_model, decltype(&trol_model_free)> model(loaded, trol_model_free);
    ok = ok && trol_image_load_file(argv[2], nullptr, &decoded, &error) == TROL_OK;
    std::unique_ptr<trol_image, decltype(&trol_image_free)> image(decoded, trol_image_free);
    ok = ok && trol_session_new(model.get(), nullptr, &begun, &error) == TROL_OK;
    std::unique_ptr<trol_session, decltype(&trol_session_free)> session(begun, trol_session_free);
    const trol_image *images[] = {image.get()};
    ok = ok && trol_session_ask(session.get(), argv[3], images, 1, &error) == TROL_OK &&
         trol_generate(session.get(), nullptr, print, nullptr, nullptr, &error) == TROL_OK;
    if (!ok)
        std::cerr << error.message << "\n";
    return ok ? 0 : 1;
}
