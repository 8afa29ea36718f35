"""Trees of sentences from the gates of a language model that never saw a tree. 无监督句法分析。"""
