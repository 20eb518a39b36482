"""A page in the browser that explains predictions and lets a person paint on the map; needs the extra `serve`."""
