//! The Engine trait and the backends that need no foreign code: openai and mock.
