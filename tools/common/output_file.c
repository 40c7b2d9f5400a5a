#include "common/output_file.h"

#include "common/signals.h"

trol_status output_file_open(const char *path, output_file *file, trol_error *error) {
    *file = (output_file){.unfinished = -1};
    const trol_status status = output_open(path, &file->content, error);
    if (status != TROL_OK)
        return status;
    file->stream = file->content.file;
    if (file->content.temporary)
        file->unfinished = signals_unfinished_file(file->content.temporary);
    return TROL_OK;
}

trol_status output_file_failed(const output_file *file, trol_error *error) {
    return output_failed(&file->content, error);
}

trol_status output_file_close(output_file *file, bool keep, trol_error *error) {
    if (!file->stream)
        return TROL_OK;
    const trol_status status = keep ? output_commit(&file->content, error) : TROL_OK;
    output_discard(&file->content);
    signals_forget_file(file->unfinished);
    *file = (output_file){.unfinished = -1};
    return status;
}
