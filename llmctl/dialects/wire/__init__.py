"""Wire formats below any dialect: JSON read strictly or leniently, events, frames, forms; edits of single bytes."""
