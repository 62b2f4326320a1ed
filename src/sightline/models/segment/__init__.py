"""Networks that give each pixel a class: one contract around many networks, and their losses."""
