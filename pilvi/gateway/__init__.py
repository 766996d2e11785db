"""HTTP in, HTTP out: the story of a request. Knows no service; gets them handed in."""
