"""Everything that the model is taught, generated from one seed.

`documents(seed, count)` yields conversations and plain texts. The same seed and
count give the same documents on any machine; nothing is read from the network
or from files outside this package.
"""

from . import words
from .assemble import Document, documents

__all__ = ["Document", "documents", "words"]
