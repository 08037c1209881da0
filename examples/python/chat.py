"""A question to a model and each of its adapters. Call: python chat.py MODEL_FOLDER QUESTION [NAME=ADAPTER_FOLDER ...]"""
import sys

from loraine import ChatModel

model, question, *adapters = sys.argv[1:]
chat_model = ChatModel(dict(model_name_or_path=model, adapter_name_or_path=adapters, do_sample=False, max_new_tokens=32))
messages = [{"role": "user", "content": question}]
for name in ["base", *chat_model.adapters()]:
    print(f"{name}: ", end="")
    for new_text in chat_model.stream_chat(messages, adapter=name):
        print(new_text, end="", flush=True)
    print()
