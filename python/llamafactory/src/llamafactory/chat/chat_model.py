"""LLaMA-Factory's ChatModel over loraine's."""
import asyncio
import warnings

import loraine

from .base_engine import Response

_OPTIONS = {"do_sample", "temperature", "top_p", "top_k", "num_return_sequences", "repetition_penalty", "length_penalty", "max_new_tokens"}
_FIXED = {"skip_special_tokens": True}  # taken with the value that loraine has


def _options(given):
    options = {}
    for key, value in given.items():
        if value is None:
            continue
        if key in _OPTIONS:
            options[key] = value
        elif key == "stop":
            warnings.warn("stop has no effect, as in LLaMA-Factory's huggingface backend", stacklevel=4)
        elif key not in _FIXED:
            raise NotImplementedError(f"{key}: loraine has no such option of an answer; it has {', '.join(sorted(_OPTIONS))}")
        elif value != _FIXED[key]:
            raise NotImplementedError(f"{key} is {value!r}; loraine has {_FIXED[key]!r} alone")
    return options


def _refuse_media(**media):
    for name, value in media.items():
        if value:
            raise NotImplementedError(f"{name}: loraine's models read text alone")


class ChatModel:
    """ChatModel(dict(model_name_or_path=..., adapter_name_or_path=..., template=...)). Answers of one model wait for each other."""

    def __init__(self, args=None):
        if args is None:
            raise ValueError("ChatModel() without settings reads the command line in LLaMA-Factory; give them as a dict here, or call `loraine chat`")
        self._model = loraine.ChatModel(args)

    def chat(self, messages, system=None, tools=None, images=None, videos=None, audios=None, **input_kwargs):
        """A list of Responses."""
        _refuse_media(images=images, videos=videos, audios=audios)
        answers = self._model.chat(messages, system=system, tools=tools, **_options(input_kwargs))
        return [Response(a.response_text, a.response_length, a.prompt_length, a.finish_reason) for a in answers]

    def stream_chat(self, messages, system=None, tools=None, images=None, videos=None, audios=None, **input_kwargs):
        """The answer piece by piece."""
        _refuse_media(images=images, videos=videos, audios=audios)
        return self._model.stream_chat(messages, system=system, tools=tools, **_options(input_kwargs))

    async def achat(self, *args, **words):
        """chat in a thread of its own."""
        return await asyncio.get_running_loop().run_in_executor(None, lambda: self.chat(*args, **words))

    async def astream_chat(self, *args, **words):
        """stream_chat, each piece awaited."""
        pieces, loop, end = self.stream_chat(*args, **words), asyncio.get_running_loop(), object()
        try:
            while (piece := await loop.run_in_executor(None, next, pieces, end)) is not end:
                yield piece
        finally:
            pieces.close()

    def get_scores(self, batch_input, **input_kwargs):
        """Scores of a reward model, one per text. max_length: tokens of a text that count."""
        max_length = input_kwargs.pop("max_length", None)
        if input_kwargs:
            raise NotImplementedError(f"{', '.join(sorted(input_kwargs))}: loraine has no such option of a score; it has max_length")
        return self._model.get_scores(batch_input, max_length=max_length)

    async def aget_scores(self, batch_input, **input_kwargs):
        """get_scores in a thread of its own."""
        return await asyncio.get_running_loop().run_in_executor(None, lambda: self.get_scores(batch_input, **input_kwargs))
