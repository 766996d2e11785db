"""What runs inside a notebook instance beside Jupyter itself."""
