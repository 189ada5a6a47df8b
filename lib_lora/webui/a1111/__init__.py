"""AUTOMATIC1111's own ways with models, encodings and its built-in extension; another engine has others."""
