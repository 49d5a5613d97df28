"""How one run proceeds: replay decides, the recorder writes, the drivers act."""
