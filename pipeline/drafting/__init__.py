"""A study drafted for one's own images: what they are, which settings fit them and the machine, and the folder."""
