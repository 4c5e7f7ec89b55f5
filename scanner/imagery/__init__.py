"""What the satellite saw there: catalogs, items, cubes, composites."""
