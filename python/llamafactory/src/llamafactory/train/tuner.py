"""run_exp and export_model, which call loraine's train and export."""
import sys

import loraine


def _call(command, with_words, args):
    """args: a dict of settings, words as on a command line, or None for those of this program."""
    if isinstance(args, dict):
        return command(args)
    return with_words(list(sys.argv[1:] if args is None else args))


def run_exp(args=None, callbacks=None):
    """Trains, or evaluates where do_train is false. Settings are LLaMA-Factory's keys."""
    if callbacks:
        raise NotImplementedError("callbacks: a run of loraine calls no Python; report_to writes its log while it goes on")
    _call(loraine.train, loraine._loraine.train, args)


def export_model(args=None):
    """Merges adapters into their base."""
    _call(loraine.export, loraine._loraine.export, args)
