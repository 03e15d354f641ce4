"""One training, from what a task asks for to a published version; exports and previews run the same way."""
