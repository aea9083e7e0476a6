"""Clinical documents: their table, their text, and how they are divided into splits."""
