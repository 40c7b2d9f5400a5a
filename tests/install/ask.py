"""The README's program in Python: ask.py MODEL PICTURE QUESTION, with the shared library's path in $LIBTROL."""
import ctypes
import os
import sys
from ctypes import CFUNCTYPE, byref, c_char_p, c_int, c_size_t, c_void_p

trol = ctypes.CDLL(os.environ.get("LIBTROL", "libtrol.so.0"))
error = ctypes.create_string_buffer(1024)  # a trol_error: the status, then the sentence


def call(name, *arguments):
    if getattr(trol, name)(*arguments, error):
        sys.exit(error.raw[4:].split(b"\0")[0].decode())


@CFUNCTYPE(c_int, c_void_p, c_char_p)
def show(user, text):
    print(text.decode(), end="", flush=True)
    return 0


path, picture, question = (argument.encode() for argument in sys.argv[1:])
model, image, session = c_void_p(), c_void_p(), c_void_p()
call("trol_model_load", path, None, byref(model))
call("trol_image_load_file", picture, None, byref(image))
call("trol_session_new", model, None, byref(session))
call("trol_session_ask", session, question, byref(image), c_size_t(1))
call("trol_generate", session, None, show, None, None)
