"""Parts of the recipe for a table of one's own."""
