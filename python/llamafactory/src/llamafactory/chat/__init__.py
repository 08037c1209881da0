from .base_engine import Response
from .chat_model import ChatModel

__all__ = ["ChatModel", "Response"]
