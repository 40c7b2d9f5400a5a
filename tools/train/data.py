"""Training and test material on the fly: pictures with labels, questions with token ids."""
import numpy as np
import torch

import pictures
import questions
import scenes


class Prompt:
    """The parts of a prompt around picture and question, as token ids."""

    def __init__(self, tokenizer, config):
        self.tokenizer, self.config = tokenizer, config
        self.cache = {}
        self.system, _ = self.halves("What is this?")

    def halves(self, question):
        """Ids before and after the picture's."""
        ids = self.tokenizer.prompt(question, 1, [1])
        at = ids.index(self.tokenizer.image_id)
        return ids[:at], ids[at + 1:]

    def question(self, text):
        """Ids after the picture's: its closing tag, the question, the template's end."""
        if text not in self.cache:
            if len(self.cache) > 50000:
                self.cache.clear()
            self.cache[text] = self.halves(text)[1]
        return self.cache[text]

    def answer(self, text):
        # What the model emits after the template: the tokens of the text, then the end.
        return self.tokenizer.encode(text) + [self.tokenizer.end_id]


class Picture:
    """A scene drawn and cut for one model: tiles [n, S, S, 3] uint8, labels [n, patches, 3]."""

    def __init__(self, scene, rng, config):
        self.scene = scene
        pixels, masks = scenes.draw(scene, rng)
        tiles, (columns, rows) = pictures.to_tiles(pixels, config)
        self.tiles = torch.from_numpy(np.array(tiles))
        side = config.image_size // config.patch
        labels = scenes.patch_labels(scene, masks, side * columns, side * rows)
        labels = labels.reshape(rows, side, columns, side, 3).swapaxes(1, 2).reshape(-1, side * side, 3)
        if columns * rows > 1:
            whole = scenes.patch_labels(scene, masks, side, side).reshape(1, side * side, 3)
            labels = np.concatenate([labels, whole])
        self.labels = torch.from_numpy(labels).to(torch.uint8)


class Source:
    """Draws pictures, keeping a stock of each tile count from which a share of every batch comes again."""

    def __init__(self, config, seed, fresh_share, stock):
        self.config, self.rng = config, np.random.default_rng(seed)
        self.fresh_share, self.limit = fresh_share, stock
        self.stock = {}
        self.ease = 0.0
        self.crowd = False  # three to six objects instead of one to four: more to learn from a picture

    def new_picture(self, tiles):
        while True:
            easy = self.rng.random() < self.ease and tiles == 1
            width, height = scenes.random_size(self.rng, 1.0 + 0.1 * self.rng.random() if easy else None)
            if not self.config.phi3:
                break
            columns, rows = pictures.choose_grid(width, height, self.config.image_size)
            if columns * rows + (columns * rows > 1) == tiles:
                break
        count = int(self.rng.integers(3, 7)) if self.crowd else None
        return Picture(scenes.random_scene(self.rng, width, height, count, self.ease), self.rng, self.config)

    def batch(self, count, tiles):
        stock = self.stock.setdefault(tiles, [])
        chosen = []
        for _ in range(count):
            if len(stock) < 8 * count or self.rng.random() < self.fresh_share:
                picture = self.new_picture(tiles)
                if len(stock) < self.limit // tiles:
                    stock.append(picture)
                else:
                    stock[self.rng.integers(len(stock))] = picture
            else:
                picture = stock[self.rng.integers(len(stock))]
            chosen.append(picture)
        return chosen

    def questions(self, picture, count, kinds, prompt, question_limit, answer_limit):
        """count questions of the given kinds as (question ids, answer ids), none longer than the limits."""
        found = []
        while len(found) < count:
            entry = questions.ask(picture.scene, self.rng, kinds[self.rng.integers(len(kinds))])
            if entry is not None:
                pair = prompt.question(entry["question"]), prompt.answer(entry["answer"])
                if len(pair[0]) <= question_limit and len(pair[1]) <= answer_limit:
                    found.append(pair)
        return found
