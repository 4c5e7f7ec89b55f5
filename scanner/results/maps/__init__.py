"""The maps of a run: class map, suspicious ground and true colour, whole and as pictures."""
