"""loraine from Python: ChatModel, train, export and evaluate, with the program's names and LLaMA-Factory's keys."""
import atexit
import json
import os
import queue
import threading
import weakref

# As the program does for itself: threads that wait sleep. Read when the native module is loaded, so it comes before that.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ["OMP_WAIT_POLICY"] = "passive"
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")

from . import _loraine
from ._loraine import Response

__all__ = ["ChatModel", "Response", "train", "export", "evaluate"]


def _text(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return json.dumps(value)
    if isinstance(value, (list, tuple)):
        return ",".join(_text(item) for item in value)
    return str(value)


def _settings(args, keywords):
    """A dict and keywords, which win; None leaves a key at its default."""
    settings = dict(args or {})
    settings.update(keywords)
    return {key: _text(value) for key, value in settings.items() if value is not None}


def _words(args, keywords):
    """The words of the command line. args: a dict, or the path of a YAML or JSON file."""
    file = []
    if isinstance(args, (str, os.PathLike)):
        file, args = [os.fspath(args)], None
    return file + [f"--{key}={value}" for key, value in _settings(args, keywords).items()]


def train(args=None, **keywords):
    """`loraine train`. args: a dict of settings, or the path of a YAML file; keywords win.
    Ctrl-C finishes the step, saves a checkpoint and raises KeyboardInterrupt; the same call then goes on from there.
    Returns what all_results.json holds, as a dict: train_loss, train_runtime, eval_loss, …; empty after dry_run."""
    return json.loads(_loraine.train(_words(args, keywords)))


def export(args=None, **keywords):
    """`loraine export`: merges adapters into their base. args and keywords as in train."""
    _loraine.export(_words(args, keywords))


def evaluate(args=None, **keywords):
    """`loraine eval`: writes eval_results.json into output_dir and returns what it holds, as a dict. args and keywords as in train."""
    return json.loads(_loraine.evaluate(_words(args, keywords)))


def _options(keywords):
    options = _loraine.ChatOptions()
    for key, value in keywords.items():
        if not hasattr(options, key):
            raise TypeError(f"an answer has no option '{key}'")
        if value is not None:
            setattr(options, key, value)
    return options


def _pairs(messages):
    for message in messages:
        if not (isinstance(message, dict) and isinstance(message.get("role"), str) and isinstance(message.get("content"), str)):
            raise TypeError(f'a message is {message!r}, expected {{"role": "user", "content": "..."}}')
    return [(message["role"], message["content"]) for message in messages]


class _Stream:
    """An answer that a thread of its own generates. A thread inside the model must be gone before the interpreter is."""

    running = weakref.WeakSet()

    def __init__(self, model, pairs, options):
        self.pieces, self.stopped = queue.Queue(), False
        self.thread = threading.Thread(target=self._work, args=(model, pairs, options), daemon=True)
        _Stream.running.add(self)
        self.thread.start()

    def _work(self, model, pairs, options):
        try:
            model.answer(pairs, options, self._put)
            self.pieces.put(None)
        except BaseException as error:  # handed to whoever reads
            self.pieces.put(error)

    def _put(self, piece):
        self.pieces.put(piece)
        return not self.stopped

    def stop(self):
        self.stopped = True
        self.thread.join()
        _Stream.running.discard(self)


@atexit.register
def _stop_streams():
    for stream in list(_Stream.running):
        stream.stop()


class ChatModel:
    """A model, with or without adapters: ChatModel(dict(model_name_or_path=..., adapter_name_or_path=..., template="llama3")), or keywords.
    Threads may share one: answers wait for each other, and other Python code runs meanwhile."""

    def __init__(self, args=None, **keywords):
        self._model = _loraine.ChatModel(_settings(args, keywords))

    def chat(self, messages, system=None, tools=None, **options):
        """A list of Responses. messages: [{"role": ..., "content": ...}, ...], the last one a question. tools: a JSON list.
        options: adapter (a name, or "base"), max_new_tokens, do_sample, temperature, top_p, top_k, repetition_penalty, num_beams, length_penalty, seed,
        num_return_sequences (the nth answer is sampled with seed + n). Ctrl-C raises KeyboardInterrupt."""
        return self._model.answer(_pairs(messages), _options(dict(options, system=system, tools=tools)), None)

    def stream_chat(self, messages, system=None, tools=None, **options):
        """The answer of chat piece by piece, whole characters each. Closing the generator, or Ctrl-C, ends it."""
        stream = _Stream(self._model, _pairs(messages), _options(dict(options, system=system, tools=tools)))
        try:
            while (piece := stream.pieces.get()) is not None:
                if isinstance(piece, BaseException):
                    raise piece
                yield piece
        finally:
            stream.stop()

    def get_scores(self, batch_input, adapter=None, max_length=None):
        """Scores of a reward model (stage rm), a list of numbers. batch_input: texts, taken as they are and cut behind max_length tokens, or conversations (lists
        of messages) that end with the answer that is scored."""
        batch = list(batch_input)
        if isinstance(batch_input, str):
            raise TypeError("get_scores takes a list of texts or of conversations, not one text")
        if all(isinstance(one, str) for one in batch):
            return self._model.score_texts(batch, adapter, max_length or 0)
        return self._model.score_chats([_pairs(one) for one in batch], adapter, max_length or 0)

    def adapters(self):
        """The names of the loaded adapters."""
        return self._model.adapters()

    def load_adapter(self, name, path):
        self._model.load_adapter(name, os.fspath(path))

    def unload_adapter(self, name):
        self._model.unload_adapter(name)

    def notes(self):
        """Warnings, and keys without effect, from opening."""
        return self._model.notes()
