"""Chat: dialogues of any number of turns, learned by a language model and continued turn by turn."""

from hanformer.chat.conversation import Conversation
from hanformer.chat.recipe import ChatRecipe
from hanformer.chat.training import train

__all__ = ["ChatRecipe", "Conversation", "train"]
