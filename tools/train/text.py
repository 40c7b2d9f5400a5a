"""Tokenizer and chat template of both families, and how the small tokenizers are trained.

Encoding: the added tokens are cut out of the text, longest first; every run of text between them goes
through SentencePiece alone. User-defined pieces and byte fallback are in the SentencePiece model itself.
"""
import json
import os
import re

import sentencepiece

SYSTEM = ("You are AI model created by Byung-Kwan Lee, Ph.D. candidate, KAIST EE, of which AI model name is TroL "
          "(Traversal of Layers). You must give helpful, detailed, and polite answers to the user's questions")

INTERNLM2_PROMPT = ("<s>[UNUSED_TOKEN_146]system\n" + SYSTEM + "[UNUSED_TOKEN_145]\n[UNUSED_TOKEN_146]user\n{question}"
                    "[UNUSED_TOKEN_145]\n[UNUSED_TOKEN_146]assistant\n")
PHI3_PROMPT = "<s><|system|>\n" + SYSTEM + "<|end|>\n<|user|>\n{question}<|end|>\n<|assistant|>\n"

PHI3_ADDED = ("<|endoftext|>", "<|assistant|>", "<|placeholder1|>", "<|placeholder2|>", "<|placeholder3|>",
              "<|placeholder4|>", "<|system|>", "<|end|>", "<|placeholder5|>", "<|placeholder6|>", "<|user|>",
              "<img>", "</img>", "<IMG_CONTEXT>", "<quad>", "</quad>", "<ref>", "</ref>", "<box>", "</box>")


class Tokenizer:
    def __init__(self, folder):
        self.pieces = sentencepiece.SentencePieceProcessor(os.path.join(folder, "tokenizer.model"))
        settings = json.load(open(os.path.join(folder, "tokenizer_config.json")))
        decoder = settings["added_tokens_decoder"]
        self.added = {entry["content"]: int(number) for number, entry in decoder.items()}
        self.rstrip = {entry["content"] for entry in decoder.values() if entry["rstrip"]}
        self.phi3 = "<|end|>" in self.added
        names = sorted(self.added, key=len, reverse=True)
        self.pattern = re.compile("(" + "|".join(re.escape(name) for name in names) + ")")
        self.image_id = self.added["<IMG_CONTEXT>" if self.phi3 else "<image>"]
        if self.phi3:
            self.end_ids = [self.added[name] for name in ("<|end|>", "<|endoftext|>", "</s>")]
        else:
            self.end_ids = [self.pieces.piece_to_id("[UNUSED_TOKEN_145]"), self.added["</s>"]]
        self.end_id = self.end_ids[0]

    def encode(self, text):
        ids = []
        strip = False
        for part in self.pattern.split(text):
            if part in self.added:
                ids.append(self.added[part])
                strip = part in self.rstrip
            else:
                part = part.lstrip() if strip else part
                strip = False
                ids += self.pieces.encode(part) if part else []
        return ids

    def prompt(self, question, tile_tokens, pictures):
        """Ids of a whole prompt; pictures is a list with the number of tiles of each."""
        if "<image>" not in question:
            question = "<image>\n" * len(pictures) + question
        template = PHI3_PROMPT if self.phi3 else INTERNLM2_PROMPT
        parts = template.replace("{question}", question).split("<image>")
        text = parts[0]
        for tiles, part in zip(pictures, parts[1:]):
            if self.phi3:
                text += "<img>" + "<IMG_CONTEXT>" * (tile_tokens * tiles) + "</img>" + part
            else:
                text += "<image>" * tile_tokens + part
        return self.encode(text)

    def decode(self, ids):
        special = set(self.added.values()) | set(self.end_ids)
        text = self.pieces.decode([i for i in ids if i not in special and i < len(self.pieces)])
        return text.strip()


def train(folder, sentences, phi3, vocabulary):
    """Writes tokenizer.model and the JSON files beside it; returns the vocabulary's size, added tokens included."""
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, "corpus.txt")
    with open(path, "w") as file:
        file.write("\n".join(sentences))
    sentencepiece.SentencePieceTrainer.train(
        input=path, model_prefix=os.path.join(folder, "tokenizer"), model_type="bpe", vocab_size=vocabulary,
        hard_vocab_limit=False, character_coverage=1.0, split_digits=True, allow_whitespace_only_pieces=True, byte_fallback=True,
        unk_id=0, bos_id=1, eos_id=2, pad_id=-1, normalization_rule_name="identity", remove_extra_whitespaces=False,
        add_dummy_prefix=phi3, user_defined_symbols=[] if phi3 else ["[UNUSED_TOKEN_145]", "[UNUSED_TOKEN_146]"],
        minloglevel=2)
    os.remove(path)
    os.remove(os.path.join(folder, "tokenizer.vocab"))
    size = len(sentencepiece.SentencePieceProcessor(os.path.join(folder, "tokenizer.model")))

    def entry(content, rstrip=False, special=True):
        return {"content": content, "lstrip": False, "normalized": False, "rstrip": rstrip, "single_word": False, "special": special}

    decoder = {"0": entry("<unk>"), "1": entry("<s>"), "2": entry("</s>", phi3, not phi3)}
    names = PHI3_ADDED if phi3 else ("<image>",)
    added = {name: size + i for i, name in enumerate(names)}
    for name, number in added.items():
        decoder[str(number)] = entry(name, name.startswith("<|") and name != "<|endoftext|>")
    end = "<|endoftext|>" if phi3 else "</s>"
    special = {"bos_token": "<s>", "eos_token": end, "pad_token": end, "unk_token": "<unk>"}
    settings = {"add_bos_token": True, "add_eos_token": False, "added_tokens_decoder": decoder, **special,
                "clean_up_tokenization_spaces": False, "padding_side": "left",
                "tokenizer_class": "LlamaTokenizer" if phi3 else "InternLM2Tokenizer"}
    if phi3:
        settings["legacy"] = False
    else:
        special["additional_special_tokens"] = settings["additional_special_tokens"] = ["<image>"]
    for file, content in (("tokenizer_config.json", settings), ("added_tokens.json", added), ("special_tokens_map.json", special)):
        json.dump(content, open(os.path.join(folder, file), "w"), indent=1)
    if phi3:
        write_fast_tokenizer(folder, decoder)
    return size + len(names) if phi3 else size


def write_fast_tokenizer(folder, decoder):
    """tokenizer.json, the same tokenizer once more in the form that other software reads."""
    pieces = sentencepiece.SentencePieceProcessor(os.path.join(folder, "tokenizer.model"))
    vocabulary = {pieces.id_to_piece(i): i for i in range(len(pieces))}
    merges = []
    for text, number in vocabulary.items():
        if pieces.is_byte(number) or pieces.is_control(number) or pieces.is_unknown(number):
            continue
        for cut in range(1, len(text)):
            if text[:cut] in vocabulary and text[cut:] in vocabulary:
                merges.append((number, vocabulary[text[:cut]], vocabulary[text[cut:]], f"{text[:cut]} {text[cut:]}"))
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
    back = {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}
    content = {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": int(number), **entry} for number, entry in decoder.items()],
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "\u2581"}, replace]},
        "pre_tokenizer": None, "post_processor": None,
        "decoder": {"type": "Sequence", "decoders": [back, {"type": "ByteFallback"}, {"type": "Fuse"},
                                                     {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True, "vocab": vocabulary,
                  "merges": [text for _, _, _, text in sorted(merges)]},
    }
    json.dump(content, open(os.path.join(folder, "tokenizer.json"), "w"), ensure_ascii=False, indent=1)
