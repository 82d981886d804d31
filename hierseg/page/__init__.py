"""The page: its components, its callbacks, and the viewer's own .html, .css and .js files."""
