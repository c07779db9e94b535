"""The bundled demonstration model: its corpus, its training and its GGUF file.

Nothing here runs inside a node. A node only reads the GGUF file that this
package once wrote and that is committed beside it.
"""
