"""The chat.qwen.ai upstream: the web chat of a consumer product, for those who bring its cookies.

Experimental, and apart from everything else: ``upstream.py`` is what the addon sees of it.
"""
