"""What an answer is."""
from dataclasses import dataclass


@dataclass
class Response:
    response_text: str
    response_length: int  # tokens
    prompt_length: int  # tokens
    finish_reason: str  # "stop" or "length"
